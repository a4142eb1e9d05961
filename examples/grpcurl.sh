#!/bin/sh
# List, describe and call the mesh with grpcurl, through reflection: sh examples/grpcurl.sh [PHOTO], after `make up`.
set -eu
target="${STAGEMESH_TARGET:-127.0.0.1:8001}"
photo="${1:-$(dirname "$0")/photos/coffee.png}"
service=inference.GRPCInferenceService

grpcurl -plaintext "$target" list
grpcurl -plaintext "$target" describe "$service.ModelInfer"
grpcurl -plaintext -d '{"service": ""}' "$target" grpc.health.v1.Health/Check
grpcurl -plaintext -d '{"name": "classify"}' "$target" "$service/ModelMetadata"

# JSON carries bytes as base64; answers are always raw: little-endian FP32 and INT32, length-prefixed BYTES.
printf '{"model_name": "classify", "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1],
  "contents": {"bytes_contents": ["%s"]}}]}' "$(base64 < "$photo" | tr -d '\n')" |
  grpcurl -plaintext -max-msg-sz 268435456 -d @ "$target" "$service/ModelInfer"
