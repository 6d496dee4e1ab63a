# image prune: warnings, answers, filters, what is deleted.
quiet docker load -i base.tar
quiet docker load -i chain.tar
quiet docker load -i box.tar
docker image prune
echo n | docker image prune
echo y | docker image prune
echo y | docker image prune -a --filter label=frob
echo Y | docker image prune
echo yes | docker image prune
docker image prune -a
docker image prune -f
docker images | sort
# dangling
quiet docker tag test/chain:2 test/base:1
~reclaimed docker image prune -f
quiet docker load -i base.tar
quiet docker tag test/box:1 test/base:1
~reclaimed echo y | docker image prune
# filters
quiet docker load -i base.tar
docker image prune -af --filter label=kind=frob
docker image prune -af --filter until=2015-01-01
~reclaimed docker image prune -af --filter until=2020-06-01 --filter label=kind=base
quiet docker load -i base.tar
docker image prune -af --filter label!=kind
~reclaimed docker image prune -af --filter label!=kind=chain --filter label!=kind=box | sort
quiet docker load -i chain.tar
quiet docker load -i box.tar
quiet docker load -i base.tar
docker image prune -f --filter dangling=true
~reclaimed docker image prune -f --filter dangling=false --filter label=kind=base
quiet docker load -i base.tar
~prune-dangling docker image prune -f --filter dangling=frob
~capital-invalid docker image prune -f --filter frob=x
docker image prune -f --filter until=garbage
docker image prune -f --filter until=1h --filter until=2h
docker image prune -f --filter frob
docker image prune -f --filter ''
docker images | sort
# everything, shared layers among it
docker image prune -af > out; echo $?; sort out | sed 's/sha256:.*/ID/' | grep -v Total
docker images | sort
docker image prune -af
# errors of the command line
docker image prune x
docker image prune --frob
docker image prune -x
