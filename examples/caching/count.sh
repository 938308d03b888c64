# How often each word is in a file: count.sh FILE OUTPUT SECONDS
sleep "$3"
tr -s ' ' '\n' < "$1" | sort | uniq -c | awk '{print $2, $1}' > "$2"
