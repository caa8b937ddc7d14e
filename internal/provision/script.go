package provision

import (
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/migrations"
	"github.com/konstruct/konstruct/tenantdb"
)

// Script is what a database administrator runs with psql instead of `konstruct init`.
type Script struct {
	Database  string
	EnvFile   string            // where the passwords are
	Verifiers map[string]string // by role; a script holds no password
}

// scriptHead is the beginning of the script: %s is the file with the passwords.
const scriptHead = `-- Prepares PostgreSQL 15 or newer with pgvector 0.8 or newer for Konstruct.
-- Run it with psql as a superuser, connected to database postgres:
--   psql "postgres://postgres@HOST:5432/postgres" -f init.sql
-- It can be run again: what is there is left as it is, except that the passwords are set again.
--
-- KEEP IT PRIVATE, and delete it afterwards: it holds SCRAM verifiers of the roles' passwords. The passwords
-- themselves are in the file %s, which stays where Konstruct runs (chmod 600); nobody else needs them.
-- Where the server cannot be reached at the address in that file, change the URLs in it.

\set ON_ERROR_STOP on
SELECT rolsuper AS konstruct_super FROM pg_roles WHERE rolname = current_user \gset
DO $check$
BEGIN
  IF current_setting('server_version_num')::int < 150000 THEN
    RAISE EXCEPTION 'this is PostgreSQL %%, and 15 is the oldest that serves', current_setting('server_version');
  ELSIF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
    RAISE EXCEPTION 'pgvector is not installed on this server: install its package first';
  END IF;
END $check$;

`

// Write writes the script.
func (s Script) Write(w io.Writer) error {
	database := pgx.Identifier{s.Database}.Sanitize()
	var b strings.Builder
	fmt.Fprintf(&b, scriptHead, s.EnvFile)
	b.WriteString("\\echo roles\n")
	for _, role := range migrations.Roles() {
		fmt.Fprintf(&b, "-- %s: %s\n", role.Name, role.Purpose)
		fmt.Fprintf(&b, "SELECT %s WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = %s) \\gexec\n",
			tenantdb.Literal(role.Create("")), tenantdb.Literal(role.Name))
		b.WriteString(role.SetPassword(s.Verifiers[role.Name]) + ";\n")
	}
	b.WriteString("\n\\echo database\n" +
		"-- Who is no superuser must be a member of the owner to give it a database, and is none afterwards.\n")
	b.WriteString("\\if :konstruct_super\n\\else\n  GRANT " + migrations.Owner + " TO CURRENT_USER;\n\\endif\n")
	for _, encoding := range []string{"UTF8", "another"} {
		fmt.Fprintf(&b, "SELECT %s FROM pg_database\n  WHERE datname = 'template1' AND "+
			"(pg_encoding_to_char(encoding) = 'UTF8') = %t\n"+
			"   AND NOT EXISTS (SELECT FROM pg_database WHERE datname = %s) \\gexec\n",
			tenantdb.Literal(createDatabase(s.Database, encoding)), encoding == "UTF8", tenantdb.Literal(s.Database))
	}
	fmt.Fprintf(&b, "\\connect %s\n\n\\echo extension\nCREATE EXTENSION IF NOT EXISTS vector;\n\n", database)
	b.WriteString("\\echo schema\n-- As its owner, as konstruct migrate up does it.\nSET ROLE " +
		migrations.Owner + ";\n")
	if err := migrations.WriteSchema(&b); err != nil {
		return err
	}
	b.WriteString("RESET ROLE;\n\\if :konstruct_super\n\\else\n  REVOKE " + migrations.Owner +
		" FROM CURRENT_USER;\n\\endif\n")
	b.WriteString(
		"\n\\echo guard\n-- As konstruct migrate guard does it. Only a superuser may.\n\\if :konstruct_super\n" +
			migrations.GuardScript())
	b.WriteString("\\else\n  \\warn 'only a superuser may install the guard: it is left out'\n\\endif\n")
	b.WriteString("\\echo done: run konstruct doctor where konstruct.env is\n")
	_, err := io.WriteString(w, b.String())
	return err
}
