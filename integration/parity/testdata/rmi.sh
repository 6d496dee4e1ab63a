# rmi: untag or delete, by name, ID, prefix; several repositories; -f.
quiet docker load -i base.tar
quiet docker load -i chain.tar
quiet docker load -i box.tar
docker rmi test/chain:1
docker rmi test/chain:2
docker rmi test/chain:2
docker images | sort
quiet docker load -i chain.tar
# by ID: more than one tag
docker rmi $(docker images -q test/chain:1)
docker rmi -f $(docker images -q test/chain:1) > out; echo $?; sort out | uniq -c | grep -c Deleted; grep Untagged out | sort
quiet docker load -i chain.tar
quiet docker rmi test/chain:2
# by ID: one tag
docker rmi $(docker images -q test/chain:1)
quiet docker load -i chain.tar
# several repositories
quiet docker tag test/chain:1 other:1
docker rmi $(docker images -q other:1)
docker rmi other:1
docker rmi test/chain:1 test/chain:2
docker images | sort
quiet docker load -i chain.tar
# prefix, full ID
docker rmi -f $(docker images -q test/chain:1 | cut -c1-4) | grep Deleted
quiet docker load -i chain.tar
docker rmi -f $(docker images -q --no-trunc test/chain:1) | grep Deleted
docker rmi -f $(docker images -q --no-trunc test/base:1 | cut -c8-20)
quiet docker load -i base.tar
# names
docker rmi nothing
docker rmi nothing:1
docker rmi a/b
docker rmi localhost:5000/a/b
docker rmi 0123456789ab
docker rmi 0123456789012345678901234567890123456789012345678901234567890123
docker rmi sha256:0123456789012345678901234567890123456789012345678901234567890123
docker rmi a@sha256:0123456789012345678901234567890123456789012345678901234567890123
~reference-case docker rmi UPPER
docker rmi 'a b'
~empty-name docker rmi ''
docker rmi a:b:c
docker rmi -f nothing
~reference-case docker rmi -f UPPER
docker rmi --force nothing other
# goes on after an error
docker rmi nothing test/base:1 neither
docker rmi -f nothing test/box:1
docker images | sort
quiet docker load -i base.tar
quiet docker load -i box.tar
# dangling
quiet docker tag test/box:1 test/base:1
docker images -f dangling=true
docker rmi $(docker images -q -f dangling=true)
docker images -f dangling=true -q
docker images | sort
docker rmi test/base:1
docker images | sort
# layers that others share stay
quiet docker load -i base.tar
quiet docker load -i chain.tar
quiet docker rmi test/chain:2
docker rmi test/base:1
quiet docker load -i base.tar
docker rmi test/chain:1
docker rmi test/base:1
# errors of the command line
docker rmi
docker rmi --frob x
docker rmi -x
docker image rm
docker image remove
docker image rm nothing
docker image remove nothing
docker rmi --no-prune nothing
