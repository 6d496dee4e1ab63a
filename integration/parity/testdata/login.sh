# login and logout: flags that contradict each other, what is said, what is kept.
~srun docker login a b
docker login --frob
docker login --password-stdin $PRIVATE </dev/null
docker login -u someone -p x --password-stdin $PRIVATE </dev/null
docker login -u someone $PRIVATE </dev/null
docker login -u '' -p x $PRIVATE </dev/null
docker login -u someone -p '' $PRIVATE </dev/null
docker login -p x $PRIVATE </dev/null
docker login $PRIVATE </dev/null
echo -n | docker login -u someone --password-stdin $PRIVATE
echo wrong | docker login -u someone --password-stdin $PRIVATE
docker login -u someone -p wrong $PRIVATE </dev/null
docker login -u nobody -p correct-horse $PRIVATE </dev/null
ls ~/.docker 2>/dev/null
docker login -u someone -p x 127.0.0.1:1 </dev/null
docker login -u someone -p x nowhere.invalid </dev/null
echo correct-horse | docker login -u someone --password-stdin $PRIVATE
stat -c %a ~/.docker/config.json; cat ~/.docker/config.json
docker login $PRIVATE </dev/null
docker login -u someone -p correct-horse $PRIVATE </dev/null
docker login -u someone -p correct-horse http://$PRIVATE </dev/null
cat ~/.docker/config.json
# a registry that wants nobody
docker login -u someone -p x $REGISTRY </dev/null
docker login $REGISTRY </dev/null
# what is kept opens
quiet docker load -i base.tar
quiet docker tag test/base:1 $PRIVATE/$SIDE/base:1
~manifest-size docker push $PRIVATE/$SIDE/base:1
docker pull -q $PRIVATE/$SIDE/base:1
~srun docker logout a b
docker logout --frob
docker logout $PRIVATE
docker logout $PRIVATE
cat ~/.docker/config.json
docker push $PRIVATE/$SIDE/base:1
~no-credentials docker pull $PRIVATE/$SIDE/base:1
docker logout
docker logout nowhere.invalid
# a password that is not right any more
mkdir -p ~/.docker; echo '{"auths":{"'$PRIVATE'":{"auth":"c29tZW9uZTp3cm9uZw=="}}}' >~/.docker/config.json
docker pull $PRIVATE/$SIDE/base:1
docker push $PRIVATE/$SIDE/base:1
~login-again docker login $PRIVATE </dev/null
~broken-config echo '{' >~/.docker/config.json; docker login -u someone -p correct-horse $PRIVATE </dev/null
~broken-config echo '{' >~/.docker/config.json; docker logout $PRIVATE
