"""What runs the servers of one machine: starts, watches and stops them.

`start` brings everything up in the background and returns when it is ready; `stop` ends it;
`read_state` says what runs. `Supervisor` is what both forms of `homeostat up` are made of.
"""

from homeostat.supervisor.background import start, stop
from homeostat.supervisor.events import Event
from homeostat.supervisor.ports import free_ports
from homeostat.supervisor.state import UpState, read_state
from homeostat.supervisor.supervise import Supervisor

__all__ = ["Event", "Supervisor", "UpState", "free_ports", "read_state", "start", "stop"]
