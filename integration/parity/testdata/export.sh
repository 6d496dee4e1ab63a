# export: a flat tar of the merged view.
quiet docker load -i box.tar
quiet docker create --name c1 test/box:1
printf new > new; docker cp new c1:/etc/new
~export-root docker export c1 | tar t | grep -vE '^(dev|proc|sys|etc)/.|^.dockerenv' | sort
~export-owners docker export c1 | tar tv etc/new etc/passwd bin/busybox bin/sh | sed 's/ 20.*:.. / /'
docker export -o out.tar c1
tar t < out.tar | grep -c bin/
stat -c %a out.tar
docker container export --output=out2.tar c1
docker export nothing
docker export -o out3.tar nothing; ls out3.tar
docker export -o nofolder/out.tar c1
docker export -o . c1
~mounted-folder docker export
~mounted-folder docker export a b
~mounted-folder docker export --frob c1
~mounted-folder docker export c1 --frob
