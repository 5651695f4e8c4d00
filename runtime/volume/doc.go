// Package volume turns the volumes of a pod into directories of the node:
// emptyDir, configMap, secret, downwardAPI, projected and hostPath. Contents
// that come from the API are written atomically, so that a guest sees either
// the old files or the new ones, and are written again when their source
// changes. It also resolves the fields that pods may refer to (downward API),
// for files here and for environment variables in the agent.
package volume
