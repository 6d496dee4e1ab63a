# Conflicts speak of an image as it was typed.
quiet docker load -i box.tar
quiet docker tag test/box:1 localhost:5000/busybox
quiet docker rmi test/box:1
quiet docker create --name c1 localhost:5000/busybox sleep 100
docker rmi localhost:5000/busybox
docker rmi localhost:5000/busybox:latest
quiet docker rm c1
quiet docker run -d --network none --name c2 localhost:5000/busybox sleep 100
docker rmi localhost:5000/busybox
docker rmi -f localhost:5000/busybox
docker images --format '{{.Repository}} {{.Tag}}'
docker rmi -f $(docker images -q)
quiet docker kill c2
docker rmi $(docker images -q)
docker rmi -f $(docker images -q)
docker images -aq
quiet docker rm c2
quiet docker load -i box.tar
quiet docker tag test/box:1 plain
quiet docker rmi test/box:1
quiet docker create --name c3 plain
docker rmi plain
docker rmi docker.io/library/plain:latest
docker rmi library/plain
docker rmi --force plain
docker ps -a --format '{{.Names}}'
