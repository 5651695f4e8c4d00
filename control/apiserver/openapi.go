package apiserver

// openAPI answers /openapi/v2, /openapi/v3 and below.
func (c *call) openAPI() { c.s.openapi.ServeHTTP(c.w, c.r) }
