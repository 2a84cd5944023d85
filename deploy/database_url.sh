# Read by backup.sh and restore.sh: DATABASE_URL for libpq, its password apart, and messages.

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

need() {
    for program in "$@"; do
        command -v "$program" > /dev/null || fail "$program was not found. Install it, or add its folder to PATH."
    done
}

# Replaces the percent-escapes in a part of a URL.
decode() {
    LC_ALL=C awk '{
        text = $0
        while (at = match(text, /%[0-9A-Fa-f][0-9A-Fa-f]/)) {
            code = (index("123456789abcdef", tolower(substr(text, at + 1, 1))) * 16) \
                + index("123456789abcdef", tolower(substr(text, at + 2, 1)))
            printf "%s%c", substr(text, 1, at - 1), code
            text = substr(text, at + 3)
        }
        printf "%s", text
    }'
}

if [ -z "${DATABASE_URL-}" ] && [ -n "${DATABASE_URL_FILE-}" ]; then
    DATABASE_URL=$(cat "$DATABASE_URL_FILE")
    export DATABASE_URL
fi
[ -n "${DATABASE_URL-}" ] || fail "DATABASE_URL is not set."

# libpq knows neither the drivers of other programs nor pgbouncer=true.
url=$(printf '%s\n' "$DATABASE_URL" | sed -e 's/^\(postgres\(ql\)\{0,1\}\)+[a-z0-9]*:/\1:/' \
    -e 's/\([?&]\)pgbouncer=[^&]*&\{0,1\}/\1/' -e 's/[?&]$//')

# The password goes into the environment, because `ps` shows the arguments of a program.
password=$(printf '%s\n' "$url" | sed -n 's|^[a-z]*://[^:@/]*:\([^/?]*\)@.*|\1|p')
if [ -n "$password" ]; then
    PGPASSWORD=$(printf '%s\n' "$password" | decode)
    export PGPASSWORD
    url=$(printf '%s\n' "$url" | sed 's|^\([a-z]*://[^:@/]*\):[^/?]*@|\1@|')
fi
