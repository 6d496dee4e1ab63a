# images, image ls: columns, order, flags, filters, formats.
docker images
quiet docker load -i base.tar
quiet docker load -i chain.tar
quiet docker load -i box.tar
docker images
docker image ls -q
docker images -q --no-trunc
docker images --digests
docker images test/chain
~filter-capital docker images -f frob=1
docker images -f frob
