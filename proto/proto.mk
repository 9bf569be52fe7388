# Generated gRPC code is committed, so that installing needs no compiler of protobuf.  grpcio-tools 1.62.3 writes code
# without version gates (it runs on protobuf >= 3.20 and grpcio >= 1.51) and exists for Python 3.10 to 3.12.
PROTO_FILES := $(sort $(wildcard proto/bnnchain/rpc/v1/*.proto))
PROTO_PYTHON ?= .venv/bin/python
PROTO_HAS_TOOLS = $(PROTO_PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))"
PROTOC = $(PROTO_PYTHON) -W ignore -m grpc_tools.protoc --proto_path=proto
PROTO_SERVICES := proto/bnnchain/rpc/v1/node.proto

.PHONY: gen gen-check

gen:
	$(PROTOC) --python_out=miner $(PROTO_FILES)
	$(PROTOC) --grpc_python_out=miner $(PROTO_SERVICES)

gen-check:
	@if $(PROTO_HAS_TOOLS); then \
	  set -e; directory=$$(mktemp -d); trap 'rm -rf "$$directory"' EXIT; \
	  $(PROTOC) --python_out="$$directory" $(PROTO_FILES); \
	  $(PROTOC) --grpc_python_out="$$directory" $(PROTO_SERVICES); \
	  diff -r -x __init__.py -x __pycache__ "$$directory/bnnchain/rpc/v1" miner/bnnchain/rpc/v1 \
	    || { echo "miner/bnnchain/rpc/v1 is not what proto/ generates: run 'make gen' and commit"; exit 1; }; \
	else echo "gen-check skipped: grpcio-tools 1.62.3 needs Python 3.10 to 3.12"; fi
