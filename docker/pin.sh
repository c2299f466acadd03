#!/usr/bin/env bash
# Pins the base image: the digest that its tag has now goes into the Dockerfile, and builds take no other image from then on.
# Asks the registry with what is there, docker's buildx, skopeo or crane; none of them downloads the image.
set -euo pipefail

fail() {
    echo "error: $*" >&2
    exit 2
}

file=$(dirname "$0")/Dockerfile
tag=$(sed -n 's/^ARG BASE=\([^@]*\).*/\1/p' "$file")
if docker buildx version > /dev/null 2>&1; then
    digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$tag")
elif command -v skopeo > /dev/null; then
    digest=$(skopeo inspect --no-tags --format '{{.Digest}}' "docker://docker.io/library/$tag")
elif command -v crane > /dev/null; then
    digest=$(crane digest "$tag")
else
    fail "to ask the registry, one of docker buildx, skopeo and crane is needed"
fi
[[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || fail "the registry answered \"$digest\" for $tag, which is no digest"
sed -i "s/^ARG BASE=.*/ARG BASE=$tag@$digest/" "$file"
echo "$tag is $digest"
