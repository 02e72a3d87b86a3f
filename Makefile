# One command for everything. What takes more than a line lives in xtask.
#
#   make demo    sets everything up and turns a prompt list into pictures with the built-in model
#   make test    sets everything up and runs every test
#   make help    lists the rest

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.toolchain/node_modules/node/bin:$(CURDIR)/.toolchain/node_modules/.bin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

RELEASE := cargo run --quiet --release -p xtask --
DEV := cargo run --quiet -p xtask --

.PHONY: help demo studio serve dev build test lint fmt goldens bench docs-screenshots codegen

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

demo: ## run docs/examples/prompts.csv on the built-in model
	@tools/setup.sh build && $(RELEASE) demo

studio: ## open the window (without a display: serve instead)
	@tools/setup.sh desktop && $(RELEASE) studio

serve: ## serve the studio to a browser
	@tools/setup.sh build && $(RELEASE) serve

dev: ## serve with hot reload of the UI
	@tools/setup.sh build && $(DEV) dev

build: ## build everything in release; CUDA=1 builds the engine for NVIDIA
	@tools/setup.sh desktop && $(RELEASE) build $(if $(CUDA),--cuda)

test: ## every test: Rust, UI, browser, desktop window
	@tools/setup.sh test && $(DEV) test

lint: ## clippy, rustfmt, ESLint, Prettier, generated files, licences
	@tools/setup.sh desktop && $(DEV) lint

fmt: ## format everything
	@$(DEV) fmt

codegen: ## write the OpenAPI document and the TypeScript client
	@$(DEV) codegen

goldens: ## record the reference tensors again (makes a Python environment)
	@tools/setup.sh bench && $(DEV) goldens

bench: ## compare speed with the reference library, time the queue, write docs/benchmarks.md; GPU=1: whole denoisers on the GPU
	@tools/setup.sh bench && $(RELEASE) bench $(if $(GPU),--gpu)

docs-screenshots: ## make the README's pictures
	@tools/setup.sh test && $(RELEASE) docs-screenshots
