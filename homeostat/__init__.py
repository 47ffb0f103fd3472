"""Settings, errors and the command line of Homeostat."""
