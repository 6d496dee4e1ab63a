# Images with a registry's digest: their rows, and rmi of them.
quiet docker load -i base.tar
quiet docker load -i chain.tar
quiet docker tag test/chain:1 $REGISTRY/$SIDE/chain:1
quiet docker push -q $REGISTRY/$SIDE/chain:1
docker images --digests $REGISTRY/$SIDE/chain
docker images --digests --no-trunc $REGISTRY/$SIDE/chain
docker inspect -f '{{len .RepoDigests}} {{len .RepoTags}}' $REGISTRY/$SIDE/chain:1
docker rmi $REGISTRY/$SIDE/chain:1
docker images --digests | sort
quiet docker rmi test/chain:1 test/chain:2
quiet docker pull -q $REGISTRY/$SIDE/chain:1
docker images --digests | sort
docker inspect -f '{{index .RepoDigests 0}}' $REGISTRY/$SIDE/chain:1 > digest
docker images --digests --format '{{.Repository}} {{.Tag}}' $(cat digest)
docker rmi $(cat digest)
docker images --digests | sort
docker rmi $REGISTRY/$SIDE/chain:1
# pulled by digest alone
quiet docker pull -q $(cat digest)
docker images
docker images --digests | sort
docker images -f dangling=true
docker images -f dangling=true -q
docker images -f dangling=false -q $REGISTRY/$SIDE/chain
docker inspect -f '{{json .RepoTags}} {{len .RepoDigests}}' $(cat digest)
docker rmi -f $(docker images -q $REGISTRY/$SIDE/chain)
quiet docker pull -q $(cat digest)
docker tag $(cat digest) again:1
docker images --digests | sort
docker rmi again:1
docker rmi $(cat digest)
# one tag and its digest by ID
quiet docker pull -q $REGISTRY/$SIDE/chain:1
docker rmi $(docker images -q $REGISTRY/$SIDE/chain)
# two tags of one repository and the digest
quiet docker pull -q $REGISTRY/$SIDE/chain:1
quiet docker tag $REGISTRY/$SIDE/chain:1 $REGISTRY/$SIDE/chain:2
docker rmi $(docker images -q $REGISTRY/$SIDE/chain:1)
docker rmi $REGISTRY/$SIDE/chain:1
docker rmi $REGISTRY/$SIDE/chain:2
# another repository without a digest
quiet docker pull -q $REGISTRY/$SIDE/chain:1
quiet docker tag $REGISTRY/$SIDE/chain:1 other:1
docker rmi $(docker images -q other:1)
docker rmi $REGISTRY/$SIDE/chain:1
docker rmi $(docker images -q other:1)
# image prune of what has a digest only
quiet docker pull -q $(cat digest)
~reclaimed docker image prune -f
docker images -q
docker rmi $(sed 's/@.*/@sha256:0123456789012345678901234567890123456789012345678901234567890123/' digest)
docker rmi $(cat digest)
