#compdef konstruct
# Completion of konstruct for zsh. The program itself says what may follow.
_konstruct() {
	local -a found before
	local line word text kind=
	before=("${(@)words[2,CURRENT-1]}")
	while IFS= read -r line; do
		word=${line%%$'\t'*}
		text=${line#*$'\t'}
		case $word in
		:files | :folders) kind=$word ;;
		*) found+=("${word//:/\\:}:$text") ;;
		esac
	done < <("${(Q)words[1]}" __complete "=${(Q)words[CURRENT]}" "${(@Q)before}" 2>/dev/null)
	if (( ${#found} )); then
		_describe -V konstruct found
	fi
	if [[ -n $kind ]]; then
		[[ $PREFIX == --*=* ]] && compset -P '*='
		if [[ $kind == :files ]]; then _files; else _files -/; fi
	fi
}
if [[ ${funcstack[1]} == _konstruct ]]; then
	_konstruct "$@"
elif (( $+functions[compdef] )); then
	compdef _konstruct konstruct
fi
