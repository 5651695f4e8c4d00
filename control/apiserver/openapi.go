package apiserver

// openAPI answers /openapi/v2 and /openapi/v3.
func (c *call) openAPI() { c.fail(errUnknownPath()) }
