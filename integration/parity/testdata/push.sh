# push: words, codes, tags, quiet, all tags. The steps of several layers come in
# any order.
quiet docker load -i steps.tar
quiet docker tag test/steps:1 $REGISTRY/$SIDE/steps:1
quiet docker tag test/steps:1 $REGISTRY/$SIDE/steps
quiet docker tag test/steps:2 $REGISTRY/$SIDE/again:1
docker push $REGISTRY/$SIDE/again
docker push $REGISTRY/$SIDE/again:2
~manifest-size set -o pipefail; docker push $REGISTRY/$SIDE/steps:1 | sort -s -k1,1
~manifest-size set -o pipefail; docker push $REGISTRY/$SIDE/steps:1 | sort -s -k1,1
docker push -q $REGISTRY/$SIDE/steps:1
~manifest-size set -o pipefail; docker push $REGISTRY/$SIDE/again:1 | sort -s -k1,1
~manifest-size set -o pipefail; docker push -a $REGISTRY/$SIDE/steps | sort -s -k1,1
docker image push --all-tags --quiet $REGISTRY/$SIDE/steps
docker push -a $REGISTRY/$SIDE/steps:1
docker push $REGISTRY/$SIDE/nothing
docker push -a $REGISTRY/$SIDE/nothing
docker push
docker push a b
docker push --frob a
docker push UPPER
docker push a/b:c:d
docker push $REGISTRY/$SIDE/steps@sha256:0000000000000000000000000000000000000000000000000000000000000000
docker push 0123456789ab
~content-trust docker push -q --disable-content-trust $REGISTRY/$SIDE/steps:1
docker push 127.0.0.1:1/x
quiet docker tag test/steps:1 127.0.0.1:1/x
docker push 127.0.0.1:1/x
docker push $PRIVATE/x
quiet docker tag test/steps:1 $PRIVATE/x
set -o pipefail; docker push $PRIVATE/x | sort -s -k1,1
