package wasi

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// ModuleName is the name of the host module.
const ModuleName = "wasi_snapshot_preview1"

// Variant chooses between function types that the same names have had. A
// module's imports tell which it needs: see NeedsFirstSockets.
type Variant int

const (
	// Standard is the specification and the second WasmEdge version.
	Standard Variant = iota
	// FirstSockets is the first WasmEdge version: sock_accept has two
	// parameters, sock_getlocaladdr and sock_getpeeraddr four.
	FirstSockets
)

// NeedsFirstSockets tells from the number of parameters of an import whether
// the module was built for the first WasmEdge version.
func NeedsFirstSockets(name string, params int) bool {
	f, ok := firstSockets[name]
	return ok && params == len(f.params)
}

// systemCall is one function: its parameter types, 'i' for i32 and 'l' for
// i64, and what it does. All but proc_exit return an Errno.
type systemCall struct {
	params string
	do     func(*Guest, memory, []uint64) Errno
}

func (c systemCall) types() []api.ValueType {
	types := make([]api.ValueType, len(c.params))
	for i, p := range c.params {
		types[i] = api.ValueTypeI32
		if p == 'l' {
			types[i] = api.ValueTypeI64
		}
	}
	return types
}

const exitName = "proc_exit"

// Has reports whether the host module offers a function of that name.
func Has(name string) bool {
	_, ok := systemCalls[name]
	return ok
}

// Instantiate adds the host module to a runtime, once for all guests. Modules
// must be called with a context of WithGuest.
func Instantiate(ctx context.Context, rt wazero.Runtime, v Variant) error {
	builder := rt.NewHostModuleBuilder(ModuleName)
	for name, call := range systemCalls {
		if first, ok := firstSockets[name]; ok && v == FirstSockets {
			call = first
		}
		results := []api.ValueType{api.ValueTypeI32}
		if name == exitName {
			results = nil
		}
		builder = builder.NewFunctionBuilder().
			WithGoModuleFunction(call.function(name), call.types(), results).Export(name)
	}
	if _, err := builder.Instantiate(ctx); err != nil {
		return fmt.Errorf("add %s to the wasm runtime: %w", ModuleName, err)
	}
	return nil
}

var errNoGuest = errors.New("a module was called without wasi.WithGuest")

func (c systemCall) function(name string) api.GoModuleFunc {
	do, params := c.checked(name), c.params
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		g, ok := ctx.Value(guestKey{}).(*Guest)
		if !ok {
			panic(errNoGuest)
		}
		g.checkpoint()
		for i, kind := range params {
			if kind == 'i' { // the upper half of an i32 is undefined
				stack[i] = uint64(uint32(stack[i]))
			}
		}
		stack[0] = uint64(do(g, memory{mod.Memory()}, stack))
	}
}

var systemCalls = map[string]systemCall{
	"args_get":                {"ii", argsGet},
	"args_sizes_get":          {"ii", argsSizes},
	"environ_get":             {"ii", environGet},
	"environ_sizes_get":       {"ii", environSizes},
	"clock_res_get":           {"ii", clockRes},
	"clock_time_get":          {"ili", clockTime},
	"fd_advise":               {"illi", fdAdvise},
	"fd_allocate":             {"ill", fdAllocate},
	"fd_close":                {"i", fdClose},
	"fd_datasync":             {"i", fdSync},
	"fd_fdstat_get":           {"ii", fdFdstatGet},
	"fd_fdstat_set_flags":     {"ii", fdFdstatSetFlags},
	"fd_fdstat_set_rights":    {"ill", fdFdstatSetRights},
	"fd_filestat_get":         {"ii", fdFilestatGet},
	"fd_filestat_set_size":    {"il", fdFilestatSetSize},
	"fd_filestat_set_times":   {"illi", fdFilestatSetTimes},
	"fd_pread":                {"iiili", fdPread},
	"fd_prestat_get":          {"ii", fdPrestatGet},
	"fd_prestat_dir_name":     {"iii", fdPrestatDirName},
	"fd_pwrite":               {"iiili", fdPwrite},
	"fd_read":                 {"iiii", fdRead},
	"fd_readdir":              {"iiili", fdReaddir},
	"fd_renumber":             {"ii", fdRenumber},
	"fd_seek":                 {"ilii", fdSeek},
	"fd_sync":                 {"i", fdSync},
	"fd_tell":                 {"ii", fdTell},
	"fd_write":                {"iiii", fdWrite},
	"path_create_directory":   {"iii", pathCreateDirectory},
	"path_filestat_get":       {"iiiii", pathFilestatGet},
	"path_filestat_set_times": {"iiiilli", pathFilestatSetTimes},
	"path_link":               {"iiiiiii", pathLink},
	"path_open":               {"iiiiillii", pathOpen},
	"path_readlink":           {"iiiiii", pathReadlink},
	"path_remove_directory":   {"iii", pathRemoveDirectory},
	"path_rename":             {"iiiiii", pathRename},
	"path_symlink":            {"iiiii", pathSymlink},
	"path_unlink_file":        {"iii", pathUnlinkFile},
	"poll_oneoff":             {"iiii", pollOneoff},
	exitName:                  {"i", procExit},
	"proc_raise":              {"i", procRaise},
	"random_get":              {"ii", randomGet},
	"sched_yield":             {"", schedYield},
	"sock_accept":             {"iii", sockAccept},
	"sock_recv":               {"iiiiii", sockRecv},
	"sock_send":               {"iiiii", sockSend},
	"sock_shutdown":           {"ii", sockShutdown},

	"sock_open":         {"iii", sockOpen},
	"sock_bind":         {"iii", sockBind},
	"sock_listen":       {"ii", sockListen},
	"sock_connect":      {"iii", sockConnect},
	"sock_recv_from":    {"iiiiiiii", sockRecvFrom},
	"sock_send_to":      {"iiiiiii", sockSendTo},
	"sock_getsockopt":   {"iiiii", sockGetOpt},
	"sock_setsockopt":   {"iiiii", sockSetOpt},
	"sock_getlocaladdr": {"iii", sockLocalAddr},
	"sock_getpeeraddr":  {"iii", sockPeerAddr},
	"sock_getaddrinfo":  {"iiiiiiii", sockAddrInfo},

	"wherry_path_mode_get": {"iiii", pathModeGet},
	"wherry_path_mode_set": {"iiii", pathModeSet},
	"wherry_tty_size":      {"i", ttySize},
}

// firstSockets are the functions whose type differs in the first version.
var firstSockets = map[string]systemCall{
	"sock_accept":       {"ii", sockAcceptShort},
	"sock_recv_from":    {"iiiiiii", sockRecvFromShort},
	"sock_getlocaladdr": {"iiii", sockLocalAddrLong},
	"sock_getpeeraddr":  {"iiii", sockPeerAddrLong},
}
