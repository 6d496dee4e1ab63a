# search: columns, flags, filters, formats.
docker search $INDEX/busybox
docker search $INDEX/nothing
docker search --no-trunc $INDEX/busybox
docker search --limit 1 $INDEX/busybox
docker search --limit 0 $INDEX/busybox
docker search --limit 100 $INDEX/tools
~search-capital docker search --limit 101 $INDEX/busybox
~search-limit docker search --limit -1 $INDEX/busybox
docker search --limit x $INDEX/busybox
docker search -f stars=5 $INDEX/busybox
~search-capital docker search --filter=stars=many $INDEX/busybox
docker search -f stars=-1 $INDEX/busybox
docker search -f is-official=true $INDEX/busybox
docker search -f is-official=false $INDEX/busybox
~search-bool docker search -f is-official=1 $INDEX/busybox
~search-capital docker search -f is-official=maybe $INDEX/busybox
docker search -f is-automated=true $INDEX/busybox
docker search -f is-automated=false $INDEX/busybox
docker search -f is-official=false -f stars=5 $INDEX/busybox
docker search -f stars=5 -f stars=10 $INDEX/busybox
~search-capital docker search -f frob=1 $INDEX/busybox
docker search -f frob $INDEX/busybox
docker search --format '{{.Name}}' $INDEX/busybox
docker search --format 'table {{.Name}}\t{{.StarCount}}' $INDEX/busybox
~row-type docker search --format '{{.Name}} {{.IsAutomated}}' $INDEX/busybox
docker search --format '{{.Name}}: {{.Description}} {{.IsOfficial}}' $INDEX/busybox
docker search --format '{{json .}}' $INDEX/busybox
docker search --format json $INDEX/busybox
docker search --format json --no-trunc $INDEX/someone
~row-type docker search --format '{{.Frob}}' $INDEX/busybox
docker search --format '{{' $INDEX/busybox
docker search --format table $INDEX/tools
docker search
docker search a b
docker search --frob a
~search-url docker search ""
~search-url docker search UPPER/x
~search-url docker search busybox
~search-ping docker search 127.0.0.1:1/x
docker search http://x/y
