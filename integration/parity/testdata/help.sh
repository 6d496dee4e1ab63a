# --help of the image commands: usage, description, names, and every flag.
docker images --help | sed '/^Options/,$d'
docker image ls --help | sed '/^Options/,$d'
docker rmi --help | sed '/^Options/,$d'
docker image rm --help | sed '/^Options/,$d'
docker tag --help
docker image tag --help
docker history --help | sed '/^Options/,$d'
docker image history --help | sed '/^Options/,$d'
docker import --help | sed '/^Options/,$d'
docker image prune --help
docker image inspect --help | sed '/^Options/,$d'
~own-name docker inspect --help | sed '/^Options/,$d'
~mounted-folder docker commit --help | sed '/^Options/,$d'
~mounted-folder docker container commit --help | sed '/^Options/,$d'
~mounted-folder docker export --help | sed '/^Options/,$d'
~own-flags docker images --help | grep -oE '^ +(-., )?--[a-z-]+( [a-z]+)?'
~own-flags docker rmi --help | grep -oE '^ +(-., )?--[a-z-]+( [a-z]+)?'
~own-flags docker history --help | grep -oE '^ +(-., )?--[a-z-]+( [a-z]+)?'
~own-flags docker import --help | grep -oE '^ +(-., )?--[a-z-]+( [a-z]+)?'
~own-flags docker commit --help | grep -oE '^ +(-., )?--[a-z-]+( [a-z]+)?'
docker export --help | grep -oE '^ +(-., )?--[a-z-]+( [a-z]+)?'
docker inspect --help | grep -oE '^ +(-., )?--[a-z-]+( [a-z]+)?'
~own-flags docker image inspect --help | grep -oE '^ +(-., )?--[a-z-]+( [a-z]+)?'
docker rmi -h | head -1
docker images -h x | head -1
docker image -h | head -1
docker image --help | head -3
docker help rmi | head -1
docker help image rm | head -1
docker image help
docker image help rm | head -1
