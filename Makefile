# Every target sets up .venv first and works without variables: the built-in set and weights are
# the defaults. WEIGHTS DATA IMGSZ NAME DEVICE ENGINE choose others; ARGS goes to the script as is.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
RTX := $(VENV)/tensorrt-rtx/1.7.1.116
AUDIT := $(VENV)/audit/bin/pip-audit
LITERT := $(VENV)/litert/2.3.0
NCNN := $(VENV)/ncnn/1.0.20261020
LOWEST := .venv-lowest
# what a package's version can change, and in minutes; ultralytics' attention was not always to be had so narrow
OF_PACKAGES := tests/base tests/data tests/geometry tests/models/test_models.py tests/graph/test_lower.py \
	tests/engines/test_engines.py -k 'not attention'
BINDINGS := $(addprefix $(VENV)/tensorrt-bindings/,10.16.1.11 11.4.0.106)

# a flag with the value of a variable as one word of the shell, whatever is in it; nothing without
flag = $(if $($2),--$1 '$(subst ','\'',$($2))')
FLAGS = $(call flag,weights,WEIGHTS) $(call flag,data,DATA) $(call flag,imgsz,IMGSZ) \
	$(call flag,name,NAME) $(call flag,device,DEVICE)
# of a target that takes everything else from the run folder
RUN_FLAGS = $(call flag,weights,WEIGHTS) $(call flag,data,DATA) $(call flag,name,NAME) \
	$(call flag,device,DEVICE) $(call flag,engine,ENGINE) $(call flag,precision,PRECISION) \
	$(call flag,source,SOURCE)
STAGES := data train baseline diagnose qat codebook

.PHONY: usual help setup $(STAGES) report ptq engine sensitivity search nas swap auto table demo predict benchmark lint-onnx \
	gpu-check test check docs bench clean fuzz-inputs fuzz-checkpoint audit reliability test-lowest
.DEFAULT_GOAL := usual

usual:
	@echo "make demo      see it work: the built-in set, in minutes"
	@echo "make auto      the fastest engine of WEIGHTS within a loss of accuracy on DATA"
	@echo "make engine    build, check and time INT8 beside FP32; ENGINE chooses the engine"
	@echo "make report    which engine to ship and why; table and pictures of a run"
	@echo "make predict   boxes of an engine drawn into SOURCE: photo.jpg, clip.mp4 ..."
	@echo "make diagnose  what is wrong with which layer in int8, and what mends it"
	@echo
	@echo "such as        make auto WEIGHTS=yolov5s.pt DATA=coco.yaml"
	@echo "make help      all targets and variables"

help:
	@echo "the whole way"
	@echo "  make demo         baseline, PTQ, engines and report on the built-in set, in minutes"
	@echo "  make auto         all that a target for the loss of accuracy needs, each step if needed"
	@echo "step by step"
	@echo "  make data         make the built-in set, or check DATA"
	@echo "  make baseline     FP32 accuracy and speed of WEIGHTS on DATA"
	@echo "  make ptq          calibrate to int8 on images of the train split"
	@echo "  make engine       build and measure ENGINE (openvino, onnxruntime, litert, ncnn, tensorrt ...)"
	@echo "  make table        FP32, FP16, implicit INT8, PTQ and QAT of ENGINE in one table"
	@echo "  make report       verdict, table and pictures of a run; RUNS='a b' compares runs"
	@echo "with a finished run"
	@echo "  make predict      boxes drawn into SOURCE, by any ENGINE and PRECISION of the run NAME"
	@echo "  make benchmark    its engines at several batches and streams"
	@echo "where int8 loses too much, or is slow"
	@echo "  make diagnose     what is wrong with which layer in int8, and what mends it"
	@echo "  make sensitivity  which layers int8 hurts, and what each costs in time"
	@echo "  make search       the fastest placement at the accuracy asked for, on real engines"
	@echo "  make qat          fine-tune the calibrated model where PTQ loses too much"
	@echo "  make swap         a faster activation in the place of SiLU, taught by the original"
	@echo "  make lint-onnx    check where the file ONNX has Q/DQ against the rules of TARGET"
	@echo "  make gpu-check    all that only an NVIDIA GPU can tell, in one file to send"
	@echo "before you train"
	@echo "  make nas          width, depth, activation and bits by accuracy and time in int8"
	@echo "for a small file"
	@echo "  make codebook     weights by codebook, 4 bits each; nothing gets faster"
	@echo "for developers"
	@echo "  make train        train the built-in checkpoint anew"
	@echo "  make fuzz-inputs  random checkpoints and data sets against plain torch, two minutes"
	@echo "  make fuzz-checkpoint  hostile bytes against the reader of checkpoints; SECONDS=600"
	@echo "  make reliability  each stage killed at random points, and the same work 20,000 times; hours"
	@echo "  make test-lowest  some tests with the lowest versions that pyproject.toml allows"
	@echo "  make audit        known faults of the pinned packages; needs the network"
	@echo "  make test check docs bench clean setup"
	@echo "variables: WEIGHTS DATA IMGSZ NAME DEVICE ENGINE PRECISION SOURCE RUNS ARGS, such as"
	@echo "  make engine WEIGHTS=yolov5s.pt DATA=coco.yaml ENGINE=openvino ARGS='--runs 100'"
	@echo "  make predict NAME=yolov5s-coco SOURCE=photo.jpg ARGS=--compare"
	@echo "  make lint-onnx ONNX=model.onnx TARGET=tensorrt (openvino, onnxruntime)"
	@echo "of each: ARGS=--help its options, ARGS=--json one object on stdout, ARGS=--quiet"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11; set PYTHON=python3.11" >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@rm -rf yoloq.egg-info  # of version 0.1, which `python -m yoloq` would take for its own
	@$(PY) -c 'import cv2' || \
		{ echo "error: OpenCV misses a system library; apt install libgl1 libglib2.0-0" >&2; exit 2; }
	@touch $@

$(STAGES): $(READY)
	@$(PY) scripts/$@.py $(FLAGS) $(ARGS)

ptq engine sensitivity search nas swap auto table: $(READY)
	@$(PY) scripts/$@.py $(FLAGS) $(call flag,engine,ENGINE) $(ARGS)

# RUNS="a b c" compares runs; a shell word each
report: $(READY)
	@$(PY) scripts/report.py $(FLAGS) $(if $(RUNS),--runs $(RUNS)) $(ARGS)

predict benchmark: $(READY)
	@$(PY) scripts/$@.py $(RUN_FLAGS) $(ARGS)

lint-onnx: $(READY)
	@$(PY) scripts/lint_onnx.py $(call flag,onnx,ONNX) $(call flag,target,TARGET) $(ARGS)

gpu-check: $(READY)
	@$(PY) scripts/gpu_check.py $(FLAGS) $(ARGS)

demo: $(READY)
	@$(PY) scripts/demo.py $(ARGS)

test: $(READY) $(BINDINGS) $(RTX) $(LITERT) $(NCNN)
	@$(PY) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

# torch is the pinned one; ARGS chooses other tests
test-lowest: $(LOWEST)/.ready
	@$(LOWEST)/bin/python -m pytest --numprocesses auto --dist loadfile $(or $(ARGS),$(OF_PACKAGES))

$(LOWEST)/.ready: pyproject.toml constraints.txt tests/support/lowest.py
	@$(PYTHON) -m venv $(LOWEST)
	@$(PYTHON) tests/support/lowest.py >$(LOWEST)/requirements.txt
	@$(LOWEST)/bin/python -m pip install --quiet --requirement $(LOWEST)/requirements.txt
	@touch $@

# new random inputs each time; a failure prints the line that repeats it
fuzz-inputs: $(READY)
	@$(PY) -m pytest --numprocesses auto --hypothesis-profile many tests/fuzz $(ARGS)

# a failing input is left in the current folder; those that found new code in build/fuzz
fuzz-checkpoint: $(READY)
	@mkdir -p build/fuzz
	@$(PY) tests/fuzz/fuzz_checkpoint.py $(or $(SECONDS),600) build/fuzz/checkpoint

# one thread: a forked process lacks the others
reliability: $(READY)
	@OMP_NUM_THREADS=1 $(PY) tests/support/reliability.py --out benchmarks/results/reliability.json $(ARGS)

# not of the tests: it asks a data base of known faults; what cannot be asked for is a fault too
audit: $(AUDIT)
	@$(AUDIT) --requirement constraints.txt --no-deps --disable-pip --strict

$(AUDIT): | $(READY)
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/pip install --quiet pip-audit==2.10.1

# TensorRT's bindings alone, without its libraries; where they cannot be had their tests skip
$(BINDINGS): | $(READY)
	@$(PY) -m pip install --quiet --retries 1 --no-deps --target $@ tensorrt-cu13-bindings==$(@F) || true

# TensorRT for RTX, whose parser and builder need no GPU; where it cannot be had its tests skip
$(RTX): | $(READY)
	@$(PY) -m pip install --quiet --retries 1 --no-deps --target $@ \
		tensorrt-rtx-cu13-bindings==$(@F) tensorrt-rtx-cu13-libs==$(@F) || true

# LiteRT and ncnn without what they would bring along; where they cannot be had their tests skip
$(LITERT): | $(READY)
	@$(PY) -m pip install --quiet --retries 1 --no-deps --target $@ ai-edge-litert==$(@F) || true

$(NCNN): | $(READY)
	@$(PY) -m pip install --quiet --retries 1 --no-deps --target $@ ncnn==$(@F) || true

check: $(READY)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-cache >$(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }

# a dead link fails
docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml
	@echo "build/site/index.html"

bench: $(READY) $(LITERT) $(NCNN)
	@PYTHONPATH=$(LITERT):$(NCNN) $(PY) benchmarks/run.py $(ARGS)

# keeps runs/: results and engines are the user's
clean:
	rm -rf data/cache .pytest_cache .ruff_cache .mypy_cache build *.egg-info
