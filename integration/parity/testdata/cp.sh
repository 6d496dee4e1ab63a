# cp: both ways, by tar, what is refused.
quiet docker load -i box.tar
quiet docker create --network none --name st test/box:1 sleep 1000
quiet docker run --network none -d --name up test/box:1 sleep 1000
mkdir -p d/sub; echo inner > d/sub/inner; echo text > f; ln -sf f l
docker cp
docker cp up:/x
docker cp a b
docker cp up:/a st:/b
docker cp nosuch:/a b
docker cp up:/nosuch b
docker cp ./nosuch up:/tmp 2>&1 | sed 's|/[^ ]*/nosuch|nosuch|'
docker cp f up:/nosuch/y
docker cp f up:/nosuch/ 2>&1 | grep -v level=error
docker cp d up:/etc/passwd 2>&1 | grep -v level=error
docker cp up:/etc/passwd nosuch/x/y
docker cp f up:/tmp
docker cp f up:/tmp/g
docker cp l up:/tmp/l
docker cp -L l up:/tmp/m
docker cp d up:/tmp
docker cp d up:/tmp/e
docker cp d/. up:/tmp/e
docker cp d/ up:/tmp/e
docker cp f up:/tmp/e/
docker exec up ls -lR /tmp | grep -v total | awk '{print $1, $2, $3, $4, $5, $9, $10, $11}'
docker cp up:/tmp/e out; ls -R out
docker cp up:/tmp/e out; ls -R out
docker cp up:/tmp/e/. out; ls -R out
docker cp up:/tmp/l lo; readlink lo
docker cp -L up:/tmp/l lf; cat lf
docker cp up:/tmp/l - | tar tf -
docker cp up:/tmp/e - | tar tf - | sort
docker cp up:/tmp/e/. - | tar tf - | sort
docker cp up:/tmp/f out/sub; ls -R out
docker cp up:/tmp out/sub/f
docker cp up:/tmp/f new/
docker cp up:/tmp/g - >g.tar; docker cp - up:/etc <g.tar; docker exec up cat /etc/g
docker cp - up:/etc/passwd < /dev/null
docker cp - - 
docker cp f st:/tmp/f; docker cp st:/tmp/f - | tar xOf -
docker diff st
docker cp up:/ rootcopy; ls rootcopy rootcopy/proc rootcopy/etc | grep -v mtab
docker rm -f up st
