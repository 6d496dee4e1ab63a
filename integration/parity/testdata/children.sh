# Images made from one another: parents, their rows, rmi and prune along the chain.
quiet docker load -i base.tar
quiet docker create --name c1 test/base:1 x
printf 1 > f1; docker cp f1 c1:/etc/f1
docker commit -m one c1 > one
quiet docker create --name c2 $(cat one) x
printf 2 > f2; docker cp f2 c2:/etc/f2
docker commit -m two c2 > two
quiet docker create --name c3 $(cat two) x
docker commit -m three c3 top:1 > three
quiet docker rm c1 c2 c3
docker images
docker images -a --format '{{.Repository}} {{.Tag}} {{.Size}}' | sort
docker images -q
docker images -aq | wc -l
docker images -f dangling=true
docker images -a -f dangling=true
docker images -a -f dangling=false -q
docker history top:1
docker history -q --no-trunc top:1
docker history $(cat two)
docker inspect -f '{{.Parent}}' top:1 $(cat two) $(cat one) test/base:1
docker images -f before=top:1 -q
docker images -a -f since=test/base:1 -q | wc -l
# the conflicts of parents
docker rmi $(cat one)
docker rmi -f $(cat two)
docker rmi test/base:1
docker images -a --format '{{.Repository}} {{.Tag}} {{.Size}}' | sort
docker image prune -f
docker images -aq | wc -l
# the last name takes the parents along
docker rmi top:1
docker images -a --format '{{.Repository}} {{.Tag}} {{.Size}}' | sort
# the same, parents kept
quiet docker load -i base.tar
quiet docker create --name c1 test/base:1 x
docker cp f1 c1:/etc/f1
docker commit c1 > one
quiet docker create --name c2 $(cat one) x
docker cp f2 c2:/etc/f2
docker commit c2 top:2 > two
quiet docker rm c1 c2
docker rmi --no-prune top:2
docker images -a --format '{{.Repository}} {{.Tag}} {{.Size}}' | sort
docker rmi $(cat one)
docker images -a --format '{{.Repository}} {{.Tag}} {{.Size}}' | sort
# a parent with a name stays
quiet docker load -i base.tar
quiet docker create --name c1 test/base:1 x
docker commit c1 mid:1
quiet docker create --name c2 mid:1 x
docker cp f2 c2:/etc/f2
docker commit c2 top:3
docker rmi mid:1
docker rmi $(docker images -q mid:1)
docker rmi -f mid:1
quiet docker rm c1 c2
docker rmi top:3
docker images -a --format '{{.Repository}} {{.Tag}} {{.Size}}' | sort
# a container on a step in the middle
quiet docker load -i base.tar
quiet docker create --name c1 test/base:1 x
docker cp f1 c1:/etc/f1
docker commit c1 > one
quiet docker create --name c2 $(cat one) x
docker commit c2 top:4
quiet docker rm c1
docker rmi top:4
docker images -a --format '{{.Repository}} {{.Tag}} {{.Size}}' | sort
docker rmi $(cat one)
docker rmi -f $(cat one)
docker images -a --format '{{.Repository}} {{.Tag}} {{.Size}}' | sort
docker ps -a --format '{{.Image}} {{.Names}}'
quiet docker rm c2
# prune of a chain without names
quiet docker load -i base.tar
quiet docker create --name c1 test/base:1 x
docker cp f1 c1:/etc/f1
docker commit c1 > one
quiet docker create --name c2 $(cat one) x
docker cp f2 c2:/etc/f2
docker commit c2 > two
quiet docker rm c1 c2
docker images -f dangling=true
~reclaimed docker image prune -f
docker images -a --format '{{.Repository}} {{.Tag}} {{.Size}}' | sort
