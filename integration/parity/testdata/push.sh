# push: words, codes, tags, quiet, all tags.
quiet docker load -i chain.tar
quiet docker load -i base.tar
quiet docker tag test/base:1 $REGISTRY/$SIDE/base:1
quiet docker tag test/chain:1 $REGISTRY/$SIDE/chain:1
quiet docker tag test/chain:2 $REGISTRY/$SIDE/chain
docker push $REGISTRY/$SIDE/base
~manifest-size docker push $REGISTRY/$SIDE/base:1
~manifest-size docker push $REGISTRY/$SIDE/base:1
docker push -q $REGISTRY/$SIDE/base:1
# steps of several layers come in any order
~manifest-size set -o pipefail; docker push $REGISTRY/$SIDE/chain:1 | sort -s -k1,1
~manifest-size set -o pipefail; docker push -a $REGISTRY/$SIDE/chain | sort -s -k1,1
docker image push --all-tags --quiet $REGISTRY/$SIDE/chain
docker push -a $REGISTRY/$SIDE/chain:1
docker push $REGISTRY/$SIDE/nothing
docker push $REGISTRY/$SIDE/base:nothing
docker push -a $REGISTRY/$SIDE/nothing
docker push
docker push a b
docker push --frob a
docker push UPPER
docker push a/b:c:d
docker push $REGISTRY/$SIDE/base@sha256:0000000000000000000000000000000000000000000000000000000000000000
docker push 0123456789ab
~manifest-size,content-trust docker push --disable-content-trust $REGISTRY/$SIDE/base:1
docker push 127.0.0.1:1/x
quiet docker tag test/base:1 127.0.0.1:1/x
docker push 127.0.0.1:1/x
docker push $PRIVATE/x
quiet docker tag test/base:1 $PRIVATE/x
docker push $PRIVATE/x
