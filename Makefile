PYTHON ?= .venv/bin/python

.PHONY: check format lint types test coverage versions fuzz lock
check: format lint types test

format:
	$(PYTHON) -m ruff format --check .

lint:
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy
	for tool in $$(grep -l python3 tools/*); do $(PYTHON) -m mypy $$tool || exit 1; done

test:
	$(PYTHON) -m pytest -n 2 -q

# Beyond what must hold for each change; tools/NAME --help or its first lines say more.
coverage versions fuzz lock:
	tools/$@
