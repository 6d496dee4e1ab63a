# Images that containers use: rmi and image prune, with containers stopped and running.
quiet docker load -i box.tar
quiet docker create --name c1 test/box:1 sleep 1000
docker rmi test/box:1
docker rmi $(docker images -q test/box:1)
docker rmi $(docker images -q test/box:1) -f
docker images -a
docker ps -a --format '{{.Image}}'
docker inspect -f '{{.Config.Image}}' c1
quiet docker rm c1
quiet docker load -i box.tar
quiet docker create --name c2 test/box:1 sleep 1000
docker rmi -f test/box:1
docker images
quiet docker load -i box.tar
docker tag test/box:1 other:1
docker rmi other:1
docker tag test/box:1 other:1
docker rmi test/box:1
docker rmi other:1
docker image prune -f
docker image prune -af
docker images
quiet docker rm c2
# running
quiet docker run -d --network none --name c3 other:1 sleep 1000
docker rmi other:1
docker rmi -f other:1
docker images
docker rmi $(docker images -q)
docker rmi -f $(docker images -q)
docker image prune -af
quiet docker rm -f c3
docker image prune -af | grep -c deleted
docker images
