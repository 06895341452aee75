# Each command sets up .venv by itself; `make help` lists them.
.PHONY: help lab doctor test test-all lint format notebooks clean venv setup-lab setup-test

PYTHON_VENV = .venv/bin/python
JOBS = 2
NOTEBOOKS = $(wildcard notebooks/*.ipynb)
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST = $(ONE_THREAD) $(PYTHON_VENV) -m pytest -n $(JOBS)

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

lab: setup-lab ## open JupyterLab on your own copies of the notebooks, in workspace/
	@$(PYTHON_VENV) -m course lab $(LAB)

doctor: setup-lab ## check this machine
	@$(PYTHON_VENV) -m course doctor

test: lint ## lint, unit tests and all notebooks: minutes on two cores
	$(PYTEST) -m "not slow and not browser"
	COURSE_STRICT=1 $(PYTEST) --nbval-lax --nbval-current-env --dist loadfile notebooks/

test-all: test ## what CI runs: `make test`, then the slow tests and the browser's
	$(PYTEST) --dist worksteal -m "slow or browser"

lint: setup-test ## check the style of code and notebooks
	$(PYTHON_VENV) -m ruff check .
	$(PYTHON_VENV) -m ruff format --check .

format: setup-test ## put code and notebooks into that style
	$(PYTHON_VENV) -m ruff check --fix .
	$(PYTHON_VENV) -m ruff format .

notebooks: setup-test ## run the notebooks again and store what they print; one that fails stays as it was
	COURSE_STRICT=1 $(PYTHON_VENV) -m nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.store_widget_state=False --ExecutePreprocessor.record_timing=False $(NOTEBOOKS)
	$(PYTHON_VENV) -m nbconvert --to notebook --inplace --coalesce-streams $(NOTEBOOKS)

clean: ## remove caches and leftovers of builds; .venv and workspace stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find course tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

venv: ## make an empty .venv, to install a PyTorch of your choice into first
	@.ci/setup

setup-lab:
	@.ci/setup lab

setup-test: setup-lab
	@.ci/setup lab,test
