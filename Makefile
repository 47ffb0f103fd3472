# Everything by one word: `make demo` shows the whole loop, `make test` proves it.
# A second run installs nothing and needs no network.

BIN := .venv/bin

.PHONY: help setup demo test lint docs fuzz bench-serving bench-ledger bench-kill bench-replicas bench-split \
	bench-overload bench-shadow bench-swap bench-rollback bench-drift bench-estimate bench-open-set bench-continual \
	bench-code bench-page clean

help:
	@echo "make demo   the whole loop on real servers and real digits, about 4 minutes"
	@echo "make test   set up what is missing, then all tests"
	@echo "make lint   ruff, mypy, import-linter"
	@echo "make docs   write docs/{commands,settings,errors}.md anew"
	@echo "make setup  the virtual environment only (TORCH_INDEX=URL: torch from there)"
	@echo "make bench-serving  the gateway beside five model servers, about 10 minutes; installs them once"
	@echo "make bench-ledger   what served when, asked of a million releases, some minutes and 4 GB"
	@echo "make bench-kill  30 kill -9 of a gateway under traffic: answered, logged, lost, twice"
	@echo "make bench-replicas  two gateways on two cores beside one on one, about 3 minutes"
	@echo "make bench-split  two gateways cut from the database for five minutes, three times, 20 minutes"
	@echo "make bench-swap  200 swaps under 200 requests a second: failed, mixed, late, about 4 minutes"
	@echo "make bench-rollback  labels and seconds until a bad version is taken back, about 9 minutes"
	@echo "make bench-overload  five times the capacity: what is refused, how long the others take"
	@echo "make bench-shadow  what versions in shadow cost the champion's callers, about 4 minutes"
	@echo "make bench-page    the page of on-call with a million predictions: first paint, parts, 2 minutes"
	@echo "make bench-page-callers  what open pages cost the callers of predictions, about 5 minutes"
	@echo "make bench-report  Evidently's pages on 100,000 rows by 20 columns: seconds, peak memory"
	@echo "make bench-drift-cost  our monitors beside Evidently's and NannyML's checks: rows a second, memory"
	@echo "make bench-drift  false alarms against budget, delays beside four peers (FULL=--full)"
	@echo "make bench-estimate  accuracy without labels: error and cover, beside NannyML, about a minute"
	@echo "make bench-open-set  rows of no known class, estimated without labels, some minutes (DATA=folder)"
	@echo "make bench-code       a language model taught one package after another: bits per byte"
	@echo "make bench-continual  retraining strategies: accuracy, forgetting, cost (DATA=folder of mnist.npz)"
	@echo "make fuzz   20,000 requests that nobody would send, over every route, about 15 minutes"
	@echo "make clean  remove the virtual environment and all caches"

setup:
	@python3 homeostat/bootstrap.py

demo: setup
	@$(BIN)/homeostat demo

# Most tests wait for a real server most of the time: four at once keep two cores busy. The two
# long ones, which use the whole machine as a user does, begin first.
test: setup
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder \
		tests/e2e tests/unit tests/integration

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: setup
	@$(BIN)/python -m homeostat.cli_reference

bench-serving: setup
	@$(BIN)/python -m benchmarks.serving --sides all --rounds 3

bench-ledger: setup
	@$(BIN)/python -m benchmarks.ledger

bench-kill: setup
	@$(BIN)/python -m benchmarks.kill --kills 30

bench-replicas: setup
	@$(BIN)/python -m benchmarks.replicas

bench-split: setup
	@$(BIN)/python -m benchmarks.split

bench-swap: setup
	@$(BIN)/python -m benchmarks.swap

bench-overload: setup
	@$(BIN)/python -m benchmarks.overload

bench-shadow: setup
	@$(BIN)/python -m benchmarks.shadow

bench-page: setup
	@$(BIN)/python -m benchmarks.page

bench-page-callers: setup
	@$(BIN)/python -m benchmarks.page_callers

bench-report: setup
	@$(BIN)/python -m benchmarks.report

bench-rollback: setup
	@$(BIN)/python -m benchmarks.rollback

bench-drift-cost: setup
	@$(BIN)/python -m benchmarks.drift_cost
bench-drift: setup
	@$(BIN)/python -m benchmarks.drift $(FULL)

bench-estimate: setup
	@$(BIN)/python -m benchmarks.estimate

bench-open-set: setup
	@$(BIN)/python -m benchmarks.open_set $(if $(DATA),--data $(DATA))

bench-code: setup
	@$(BIN)/python -m benchmarks.continual_code

bench-continual: setup
	@$(BIN)/python -m benchmarks.continual $(if $(DATA),--data $(DATA))

fuzz: setup
	@$(BIN)/python -m benchmarks.fuzz

clean:
	rm -rf .venv .benchmarks build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
