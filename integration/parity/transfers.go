package parity

// transferDifferences are those of the commands that speak to registries.
func transferDifferences() []Difference {
	return []Difference{
		{
			Name: "manifest-size", Reason: "a manifest that unio makes is JSON without blanks, so it has another size than docker's",
			Docker: []Rewrite{{`size: \d+`, "size: N"}}, Unio: []Rewrite{{`size: \d+`, "size: N"}},
		},
		{
			Name: "content-trust", Reason: "unio has no content trust; that `--disable-content-trust` does nothing is said",
			Unio: []Rewrite{{`WARNING: --disable-content-trust .*\n`, ""}},
		},
		{
			Name: "pull-platform", Reason: "a platform that was asked for and is not there is an error; docker 20.10 takes what there is",
			Docker: []Rewrite{{`(?s).+`, ""}}, Unio: []Rewrite{{`(?s).*`, ""}}, Codes: []int{0, 1},
		},
		{
			Name: "search-bool", Reason: "docker 28 takes `1` and `0` for `true` and `false`; 20.10 knows the words only",
			Docker: []Rewrite{{`(?s).+`, ""}}, Unio: []Rewrite{{`(?s).+`, ""}}, Codes: []int{1, 0},
		},
		{
			Name: "search-limit", Reason: "docker 28 refuses a negative limit; 20.10 takes it for none",
			Docker: []Rewrite{{`(?s).+`, ""}}, Unio: []Rewrite{{`(?s).+`, ""}}, Codes: []int{0, 1},
		},
		{
			Name: "no-credentials", Reason: "that a registry wants credentials is said without the address of the first request",
			Docker: []Rewrite{{`Head "\S+": `, ""}},
		},
		{
			Name: "login-again", Reason: "docker repeats the daemon's prefix in the middle of a sentence",
			Docker: []Rewrite{{`error: Error: `, "error: "}},
		},
		{
			Name: "broken-config", Reason: "docker takes a `config.json` that it cannot read for an empty one and writes over it; unio leaves it alone",
			Docker: []Rewrite{{`(?s).*`, ""}}, Unio: []Rewrite{{`(?s).*`, ""}}, Codes: []int{0, 1},
		},
		{
			Name: "save-missing", Reason: "save names the image that is not there as it looked for it, tag included",
			Docker: []Rewrite{{`reference does not exist|No such image: \S+`, "No such image"}}, Unio: []Rewrite{{`No such image: \S+`, "No such image"}},
		},
		{
			Name: "no-archive", Reason: "unio says what is wrong with a file that is no archive; docker names its own temporary files, or the process that read it",
			Docker: []Rewrite{{`(?:open \S*docker-import|Error processing tar file|error during connect).*`, "X"}},
			Unio:   []Rewrite{{`Error: (?:requested load from stdin, but stdin is empty|\S+ (?:not an image archive|corrupt archive): .*)`, "X"}},
		},
		{
			Name: "value-type", Reason: "errors of templates name Go types of the program, here of what is no row",
			Docker: []Rewrite{{`in type \S+`, "in type TYPE"}}, Unio: []Rewrite{{`in type \S+`, "in type TYPE"}},
		},
		{
			Name: "df-sizes", Reason: "unio counts what things take on disk, all forms of a layer, its index and whole blocks; docker the sizes of files in layers",
			Docker: []Rewrite{{`\b[\d.]+[kM]?B\b( \(\d+%\))?`, "N"}, {` +`, " "}}, Unio: []Rewrite{{`\b[\d.]+[kM]?B\b( \(\d+%\))?`, "N"}, {` +`, " "}},
		},
		{
			Name: "df-cache", Reason: "unio does not count how often a step of a build was used",
			Docker: []Rewrite{{`LAST USED +USAGE +SHARED`, "LAST USED"}},
		},
		{
			Name: "no-networks", Reason: "unio has no networks of its own to remove",
			Docker: []Rewrite{{`  - all networks not used by at least one container\n`, ""}},
		},
		{
			Name: "search-capital", Reason: "docker 20.10 says `Limit` and `Invalid filter`, docker 28 `limit` and `invalid filter`; unio says the latter",
			Docker: []Rewrite{{`Limit`, "limit"}, {`Invalid filter`, "invalid filter"}},
		},
		{
			Name: "search-url", Reason: "an address in an error is shown without its query, which may hold secrets",
			Docker: []Rewrite{{`\?q=[^"]*`, ""}},
		},
		{
			Name: "search-ping", Reason: "unio searches at once, docker asks for `/v1/_ping` first",
			Docker: []Rewrite{{`invalid registry endpoint .* HTTP attempt: Get "(\S+)/_ping"`, `Get "$1/search"`}},
		},
	}
}
