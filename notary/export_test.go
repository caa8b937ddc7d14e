package notary

// Unlease has a notary work without the lease, as one that lost it and does not know.
func (n *Notary) Unlease() { n.unleased = true }
