# pull: words, codes, tags, digests, quiet, all tags, platforms. What was pushed
# last is pulled by both. dockerd shows passing steps when it has time to.
quiet docker load -i base.tar
quiet docker load -i chain.tar
quiet docker tag test/base:1 $REGISTRY/both/base:1
quiet docker push $REGISTRY/both/base:1
quiet docker tag test/chain:1 $REGISTRY/both/chain:1
quiet docker push $REGISTRY/both/chain:1
quiet docker rmi -f $(docker images -q | sort -u)
~no-credentials docker pull $PRIVATE/x
docker pull $REGISTRY/both/base
set -o pipefail; docker pull $REGISTRY/both/base:1 | sed '/Verifying Checksum/d; /Download complete/d'
docker pull $REGISTRY/both/base:1
docker pull -q $REGISTRY/both/base:1
set -o pipefail; docker pull $REGISTRY/both/chain:1 | sed '/Verifying Checksum/d; /Download complete/d' | sed 's/^[0-9a-f]\{12\}:/layer:/' | sort
docker images --digests
docker rmi $REGISTRY/both/chain:1
docker pull -a $REGISTRY/both/base
docker image pull --all-tags -q $REGISTRY/both/base
docker pull -a $REGISTRY/both/base:1
docker pull -a $REGISTRY/both/nothing
docker pull $REGISTRY/both/nothing
docker pull $REGISTRY/both/base:nothing
docker pull -q $REGISTRY/both/base:nothing
docker pull $REGISTRY/both/base@sha256:0000000000000000000000000000000000000000000000000000000000000000
docker pull $REGISTRY/both/base@sha256:00
docker pull $REGISTRY/both/base:
docker pull $REGISTRY/both/base:.x
docker pull UPPER
docker pull a//b
docker pull ""
docker pull scratch
docker pull
docker pull a b
docker pull --frob a
docker pull -z a
docker pull 0000000000000000000000000000000000000000000000000000000000000000
docker pull 127.0.0.1:1/x
docker pull 127.0.0.1:1/x:y
docker pull nowhere.invalid/x:y
docker pull busybox
~content-trust docker pull --disable-content-trust -q $REGISTRY/both/base:1
docker pull --platform linux/amd64 $REGISTRY/both/base:1
docker pull --platform a/b/c/d $REGISTRY/both/base:1
docker pull --platform frob $REGISTRY/both/base:1
docker pull --platform a//b $REGISTRY/both/base:1
docker pull --platform 'a b' $REGISTRY/both/base:1
docker pull --platform linux -q $REGISTRY/both/base:1
docker pull --platform x86_64 -q $REGISTRY/both/base:1
docker inspect -f '{{index .RepoDigests 0}}' $REGISTRY/both/base:1
quiet docker inspect -f '{{index .RepoDigests 0}}' $REGISTRY/both/base:1 >digest
quiet docker rmi -f $(docker images -q | sort -u)
set -o pipefail; docker pull $(cat digest) | sed '/Verifying Checksum/d; /Download complete/d'
docker pull -q $(cat digest)
docker images
docker images --digests
docker rmi $(cat digest)
# what shows IDs on one side only
~pull-platform docker pull --platform linux/arm64 $REGISTRY/both/chain:1 >/dev/null 2>&1
