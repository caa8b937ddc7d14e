package completion

import (
	"embed"
	"fmt"
)

// Shells are those that there is a script for, as an enumeration of kong.
const Shells = "bash,zsh,fish,powershell"

//go:embed scripts
var scripts embed.FS

// Script returns what a shell reads to complete commands of konstruct.
func Script(shell string) (string, error) {
	raw, err := scripts.ReadFile("scripts/konstruct." + shell)
	if err != nil {
		return "", fmt.Errorf("completion: there is no script for %q, only for %s", shell, Shells)
	}
	return string(raw), nil
}
