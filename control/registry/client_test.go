package registry

import (
	"testing"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/api/apitest"
)

func TestClient(t *testing.T) {
	apitest.Run(t, func(t *testing.T) api.Client { return newRegistry(t) })
}
