package tenantdb

// GuardInstalled reports whether all that `migrate guard` installs is there, as this version installs it.
func (c Catalog) GuardInstalled() bool {
	for _, d := range c.Differences {
		if d.Kind == guardKind || d.Kind == finderKind {
			return false
		}
	}
	return c.Guarded
}
