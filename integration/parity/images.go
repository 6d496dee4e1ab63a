package parity

// imageDifferences are those of the commands that manage images.
func imageDifferences() []Difference {
	return []Difference{
		{
			Name: "filter-capital", Reason: "docker 20.10 says `Invalid filter`, docker 28 `invalid filter`; unio says the latter",
			Docker: []Rewrite{{`Invalid filter`, "invalid filter"}},
		},
		{
			Name: "filter-dangling", Reason: "docker 28 takes `1` and `0` for `true` and `false` and refuses both at once; 20.10 knows the words only",
			Docker: []Rewrite{{`(?s).+`, ""}}, Unio: []Rewrite{{`(?s).+`, ""}}, Codes: []int{1, 0},
		},
		{
			Name: "filter-both", Reason: "docker 28 refuses `dangling=true` together with `dangling=false`; to 20.10 it is `true`",
			Docker: []Rewrite{{`(?s)REPOSITORY.+`, ""}}, Unio: []Rewrite{{`Error: invalid filter 'dangling=\[false true\]'\n`, ""}}, Codes: []int{0, 1},
		},
		{
			Name: "filter-until", Reason: "docker 28 lists images by `until`; 20.10 does not know the filter",
			Docker: []Rewrite{{`Error: Invalid filter 'until'\n`, ""}}, Unio: []Rewrite{{`(?s).+`, ""}}, Codes: []int{1, 0},
		},
		{
			Name: "row-type", Reason: "errors of templates name Go types of the program",
			Docker: []Rewrite{{`\*formatter\.\w+`, "TYPE"}}, Unio: []Rewrite{{`\*main\.\w+`, "TYPE"}},
		},
		{
			Name: "srun", Reason: "the client 28.2 prints `SRun` for `Run` below a wrong number of arguments",
			Docker: []Rewrite{{`(?m)^SRun`, "Run"}},
		},
	}
}
