# images, image ls: columns, order, flags, filters, formats.
docker images | sort
docker images -q
docker images --digests
docker images --format json
docker images --no-trunc
quiet docker load -i base.tar
quiet docker load -i chain.tar
quiet docker load -i box.tar
docker images | sort
docker images -a
docker image ls
docker image list -q
docker images -q --no-trunc
docker images --no-trunc
docker images --digests
docker images --digests --no-trunc
docker images -aq
docker images test/chain -q
docker images test/chain:2
docker images test/chain:none
docker images 'test/*'
docker images 'test/*:1'
docker images '*'
docker images test
docker images docker.io/test/base
docker images localhost/test/base
docker images UPPER
docker images 'a b'
docker images ''
# tags order, many repositories of one image
quiet docker tag test/base:1 zeta
quiet docker tag test/base:1 alpha:9
quiet docker tag test/base:1 alpha:10
quiet docker tag test/base:1 127.0.0.1:5000/a/b:x
quiet docker tag test/base:1 ghcr.io/a/b
docker images | sort
docker images 127.0.0.1:5000/a/b
docker images ghcr.io/a/b
docker images -f reference='*' | sort
docker images -f reference='*:9'
docker images -f reference='*/*'
docker images -f reference='alpha' -f reference=zeta | sort
docker images -f reference='ghcr.io/*/*'
docker images -f reference='[' 
docker images -f reference='alpha' zeta | sort
# formats
docker images --format json test/base
docker images --format '{{json .}}' test/base
docker images --format '{{.Repository}}:{{.Tag}} {{upper .Tag}}' test/chain
docker images --format '{{.ID}}' test/chain
docker images --format '{{.ID}}' --no-trunc test/chain
docker images --format '{{.Size}} {{.VirtualSize}} {{.SharedSize}} {{.UniqueSize}} {{.Containers}}' test/base
docker images --format '{{.CreatedAt}} {{.CreatedSince}}' test/base
docker images --format '{{.Digest}}' test/base
docker images --format 'table {{.Repository}}\t{{.Tag}}' test/chain
docker images --format 'table {{.ID}}\t{{.Size}}\t{{.CreatedAt}}\t{{.Digest}}' test/chain
docker images --format 'table {{.ID}}\t{{.CreatedSince}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.VirtualSize}}\t{{.Containers}}' test/chain
docker images --format 'table {{.Repository|lower}}: {{join (split .Tag "a") "b"}}' alpha
docker images --format 'table' test/chain
docker images --format 'table ' test/chain
docker images --format raw test/chain
docker images --format '{{' test/chain
~row-type docker images --format '{{.Frob}}' test/chain
docker images --format '{{frob .ID}}' test/chain
docker images --format 'x{{.Tag}}\n{{.ID}}' test/chain
docker images --format 'x{{println .Tag}}' test/chain
docker images --format '{{pad .Tag 2 3}}|{{truncate .Repository 3}}|{{title .Tag}}' test/chain
docker images --format '{{table}}' test/chain
docker images -q --format '{{.Tag}}' test/chain
docker images -q --format table test/chain
docker images -q --format json test/chain
docker images --digests --format table test/chain
docker images --digests --format 'table {{.Tag}}' test/chain
# filters
~capital-invalid docker images -f frob=1
docker images -f frob
docker images -f frob -f dangling=true
docker images -f '' | sort
~capital-invalid docker images -f '='
docker images -f dangling=true
docker images -f dangling=false -q
~filter-dangling docker images -f dangling=1
~filter-dangling docker images -f dangling=0 test/chain
~capital-invalid docker images -f dangling=perhaps
~filter-both docker images -f dangling=true -f dangling=false
docker images -f label=kind -q
docker images -f label=kind=chain
docker images -f label=kind=chain -f label=n=3 -q
docker images -f label=kind=chain -f label=n=4 -q
docker images -f label=kind=frob
~capital-invalid docker images -f 'label!=kind=chain' -q
docker images -f before=test/base:1
docker images -f before=test/chain:1 -q
docker images -f since=test/base:1
docker images -f since=test/box:1 -q
docker images -f since=test/box:1 -f before=test/chain:1 test/base
docker images -f since=nothing
docker images -f before=nothing:1
docker images -f before=$(docker images -q test/chain:1) test/box
~filter-until docker images -f until=24h -q
~filter-until docker images -f until=2020-06-01 -q
~filter-until docker images -f until=2020-01-02T03:04:05 -q
~filter-until docker images -f until=1590000000 -q
docker images -f DANGLING=true
docker images -f 'dangling = true'
# argument errors
~srun docker images a b
docker images --frob
docker images -x
docker images -f
docker images --format
docker images --digests=perhaps
docker images --help | head -3
docker image ls --frob
~srun docker image list a b
docker image ls --help | head -6
docker image
docker image frob
docker image --frob
docker frob
docker --frob
# what lost its name
quiet docker tag test/base:1 test/chain:2
docker images | sort
quiet docker rmi -f test/chain:1
docker images -f dangling=true
