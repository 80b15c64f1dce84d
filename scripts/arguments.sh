# Sourced by the scripts that people call, before they change folder or do anything: what ends a call with a wrong argument.

script=$(realpath "$0")

# Ends the script, and shows its head, which says how to call it: with status 2, or 0 where somebody asked for it.
usage()
{
	[ "${1:-2}" = 0 ] || exec >&2
	sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$script"
	exit "${1:-2}"
}

# Ends the script with the reason and its head.
refuse()
{
	printf '%s: %s\n\n' "$0" "$1" >&2
	usage
}

# Ends the script at -h, and where an argument is of another kind than its place has, or missing. Arguments: how many must be there,
# the kinds, and what the script was called with. A kind is "number" from 1 on, "count" from 0 on, "path", "name", or words with |
# between them; after "..." as the last one, the kind before it may come again.
expect_arguments()
{
	local needed=$1 kinds kind wanted pattern argument n=0
	read -r -a kinds <<<"$2"
	shift 2
	for argument; do
		case $argument in -h | --help) usage 0 ;; esac
		[ "${kinds[n]:-}" = ... ] || n=$((n + 1))
		kind=${kinds[n - 1]:-}
		wanted="a $kind"
		case $kind in
			'') refuse "one argument too many: $argument" ;;
			number) pattern='[1-9][0-9]*' ;;
			count) pattern='0|[1-9][0-9]*' ;;
			path | name) pattern='[^-].*' ;;
			*)
				pattern=$kind
				wanted=${kind//|/ or }
				;;
		esac
		[[ $argument =~ ^($pattern)$ ]] || refuse "\"$argument\" stands where $wanted must be"
	done
	[ $# -ge "$needed" ] || refuse 'an argument is missing'
}
