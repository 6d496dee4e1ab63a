# history: steps, sizes, flags, formats.
quiet docker load -i base.tar
quiet docker load -i chain.tar
quiet docker load -i box.tar
docker history test/chain:1
docker history test/base:1
docker history $(docker images -q test/box:1)
docker history --no-trunc test/chain:1
docker history -q test/chain:1
docker history -q --no-trunc test/chain:1
docker history -H=false test/chain:1
docker history --human=false --no-trunc test/chain:1
docker history --format json test/chain:1
docker history --format '{{json .}}' test/chain:1
docker history --format '{{.ID}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}|{{.CreatedSince}}|{{.CreatedAt}}' test/chain:1
docker history --format '{{.CreatedAt}}' -H=false test/base:1
docker history -H=false --format '{{.Size}} {{.CreatedSince}}' test/chain:1
docker history --format 'table {{.ID}}\t{{.CreatedBy}}' test/chain:1
docker history --format 'table {{.CreatedAt}}\t{{.Size}}\t{{.Comment}}' test/chain:1
docker history --format table test/base:1
docker history --format raw test/base:1
~row-type docker history --format '{{.Frob}}' test/base:1
docker history --format '{{' test/base:1
docker history -q --format '{{.Size}}' test/base:1
docker image history test/base:1
docker history nothing
docker history nothing:1
docker history 0123456789ab
~reference-case docker history UPPER
~empty-name docker history ''
docker history
docker history a b
docker history --frob x
quiet docker import -m 'by hand' rootfs.tar imp:1
docker history imp:1
quiet docker import rootfs.tar imp:2
docker history imp:2
