# Everything a person or the CI does with this checkout. Needs python3 (3.10 or newer) and make; the rest is
# installed when it is missing, after saying what and where.
.PHONY: help demo demo-direct demo-forge demo-gerrit demo-public demo-down check test faults mutants bench doc
# Debian's own python3 where it is new enough: python3-venv is made for it, and another one on PATH is often compiled
# without profile-guided optimisation, which makes every step start a fifth slower.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	&& echo /usr/bin/python3 || echo python3)

help:
	@echo 'make demo       a chart from push to production, on this machine'
	@echo 'make demo-direct  two developers, Subversion and Kubernetes, without a chart repository'
	@echo 'make demo-forge  a chart from a pull request on a real forge (Gitea) to an installation'
	@echo 'make demo-gerrit  a chart from a review on a real Gerrit to a release'
	@echo 'make demo-public  a branch proposed on Launchpad (a double), merged, tagged, and all charts published'
	@echo 'make demo-down  end and remove everything that these started'
	@echo 'make check      lint, unit and contract tests'
	@echo 'make test       everything, with a real engine and a real Kubernetes'
	@echo 'make faults     kills, full disks, power cuts, signals: what holds, as figures; FULL=1 for every point'
	@echo 'make mutants    guards of the project broken one by one: which tests notice'
	@echo 'make bench      how long things take, as ratios'
	@echo 'make doc        write docs/reference anew'

demo:
	@$(PYTHON) tools/demo/demo.py up

demo-direct:
	@$(PYTHON) tools/demo/direct.py up

demo-forge:
	@$(PYTHON) tools/demo/forge.py up

demo-gerrit:
	@$(PYTHON) tools/demo/gerrit.py up

demo-public:
	@$(PYTHON) tools/demo/public.py up

demo-down:
	@$(PYTHON) tools/demo/gerrit.py down
	@$(PYTHON) tools/demo/direct.py down
	@$(PYTHON) tools/demo/demo.py down

check test faults mutants bench:
	@$(PYTHON) tools/lanes.py $@

doc:
	@$(PYTHON) tools/environment.py >/dev/null && .venv/bin/python -m tools.reference
