# Completion of konstruct for bash. The program itself says what may follow.
_konstruct() {
	local words=() word join= prefix= current i
	for ((i = 1; i <= COMP_CWORD; i++)); do # bash takes --flag=value apart
		word=${COMP_WORDS[i]}
		if [[ ${#words[@]} -gt 0 && ($word == '=' || -n $join) ]]; then
			words[${#words[@]} - 1]+=$word
		else
			words+=("$word")
		fi
		join=
		[[ $word == '=' ]] && join=1
	done
	current=${words[${#words[@]} - 1]}
	unset "words[${#words[@]} - 1]"
	if [[ $current == --*=* && $COMP_WORDBREAKS == *=* ]]; then
		prefix=${current%%=*}=
	fi
	COMPREPLY=()
	while IFS=$'\t' read -r word _; do
		case $word in
		:files | :folders)
			compopt -o filenames 2>/dev/null
			local kind=-f path
			[[ $word == :folders ]] && kind=-d
			while IFS= read -r path; do
				COMPREPLY+=("$path")
			done < <(compgen "$kind" -- "${current#"$prefix"}")
			;;
		*) COMPREPLY+=("${word#"$prefix"}") ;;
		esac
	done < <("${1:-konstruct}" __complete "=$current" "${words[@]}" 2>/dev/null)
}
complete -F _konstruct konstruct
