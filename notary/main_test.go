package notary_test

import (
	"testing"

	"github.com/konstruct/konstruct/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
