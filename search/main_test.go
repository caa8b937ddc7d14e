package search_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	tenantA = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	tenantB = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	agent   = uuid.MustParse("33333333-3333-4333-8333-333333333333")
)
