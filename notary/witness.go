package notary

// Witness is somebody who cosigns checkpoints.
type Witness struct{}

func (n *Notary) ask() {}

func (n *Notary) shrink() {}
