package wasi

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/sys"
)

// The descriptors of the guest of this suite, in the order of their numbers.
const (
	fdStdin, fdStdout, fdStderr = 0, 1, 2
	fdData, fdReadOnly, fdRoot  = 3, 4, 5 // /data, /ro, and / which only leads to them
	fdFile                      = 6       // f of /data, "some text", for reading and writing
	fdReader                    = 7       // the same for reading
	fdAppend                    = 8       // the same for appending
	fdDir                       = 9       // d of /data, with x and y in it
	fdStream                    = 10      // a fresh stream socket
	fdDatagram                  = 11
	fdNone                      = 99
	fdHuge                      = uint64(1<<32 - 1)
)

// Arguments that take more than a number: a path, a buffer, and an array of
// one buffer, each two arguments of a call.
type (
	buffer  struct{ at, size uint64 }
	vectors int // the size of its one buffer
)

const (
	out = atResult

	minusOne = uint64(1<<64 - 1)
	lowest   = uint64(1 << 63) // of the signed numbers
)

// beyond is an address behind the guest's memory.
const beyond = testBase + testSize + 1

// suite are the documented results of every function of WASI preview 1
// (legacy/preview1/docs.md; POSIX where that refers to it). Each case has a
// guest of its own.
var suite = []struct {
	call, name string
	args       []any
	want       Errno
}{
	{"args_get", "none", []any{atData, atExtra}, OK},
	{"args_get", "pointers out of memory", []any{beyond, atExtra}, EFAULT},
	{"args_sizes_get", "", []any{out, atExtra}, OK},
	{"args_sizes_get", "count out of memory", []any{beyond, atExtra}, EFAULT},
	{"args_sizes_get", "size out of memory", []any{out, beyond}, EFAULT},
	{"environ_get", "", []any{atData, atExtra}, OK},
	{"environ_get", "out of memory", []any{atData, beyond}, EFAULT},
	{"environ_sizes_get", "", []any{out, atExtra}, OK},
	{"environ_sizes_get", "out of memory", []any{out, beyond}, EFAULT},
	{"clock_res_get", "realtime", []any{0, out}, OK},
	{"clock_res_get", "monotonic", []any{1, out}, OK},
	{"clock_res_get", "of a process", []any{2, out}, EINVAL},
	{"clock_res_get", "unknown", []any{77, out}, EINVAL},
	{"clock_res_get", "out of memory", []any{0, beyond}, EFAULT},
	{"clock_time_get", "realtime", []any{0, 1, out}, OK},
	{"clock_time_get", "monotonic", []any{1, 0, out}, OK},
	{"clock_time_get", "of a thread", []any{3, 0, out}, EINVAL},
	{"clock_time_get", "out of memory", []any{1, 0, beyond}, EFAULT},
	{"random_get", "", []any{buffer{atData, 64}}, OK},
	{"random_get", "nothing", []any{buffer{atData, 0}}, OK},
	{"random_get", "out of memory", []any{buffer{beyond, 4}}, EFAULT},
	{"random_get", "more than there is", []any{buffer{atData, uint64(1 << 31)}}, EFAULT},
	{"sched_yield", "", nil, OK},
	{"proc_raise", "nothing", []any{0}, OK},
	{"proc_raise", "unknown", []any{200}, EINVAL},

	{"fd_advise", "file", []any{fdFile, 0, 100, 0}, OK},
	{"fd_advise", "last advice", []any{fdFile, 0, 100, 5}, OK},
	{"fd_advise", "unknown advice", []any{fdFile, 0, 100, 6}, EINVAL},
	{"fd_advise", "stream", []any{fdStdout, 0, 1, 0}, ESPIPE},
	{"fd_advise", "none", []any{fdNone, 0, 1, 0}, EBADF},
	{"fd_allocate", "grows", []any{fdFile, 0, 100}, OK},
	{"fd_allocate", "within", []any{fdFile, 0, 2}, OK},
	{"fd_allocate", "nothing", []any{fdFile, 0, 0}, EINVAL},
	{"fd_allocate", "overflow", []any{fdFile, lowest, lowest}, EINVAL},
	{"fd_allocate", "for reading", []any{fdReader, 0, 100}, EBADF},
	{"fd_allocate", "directory", []any{fdDir, 0, 100}, EISDIR},
	{"fd_allocate", "none", []any{fdNone, 0, 100}, EBADF},
	{"fd_close", "file", []any{fdFile}, OK},
	{"fd_close", "preopened directory", []any{fdData}, OK},
	{"fd_close", "standard output", []any{fdStdout}, OK},
	{"fd_close", "socket", []any{fdStream}, OK},
	{"fd_close", "none", []any{fdNone}, EBADF},
	{"fd_close", "huge", []any{fdHuge}, EBADF},
	{"fd_datasync", "file", []any{fdFile}, OK},
	{"fd_datasync", "directory", []any{fdDir}, OK},
	{"fd_datasync", "stream", []any{fdStdout}, EINVAL},
	{"fd_datasync", "none", []any{fdNone}, EBADF},
	{"fd_sync", "file", []any{fdFile}, OK},
	{"fd_sync", "directory", []any{fdDir}, OK},
	{"fd_sync", "stream", []any{fdStdin}, EINVAL},
	{"fd_sync", "none", []any{fdNone}, EBADF},
	{"fd_fdstat_get", "file", []any{fdFile, out}, OK},
	{"fd_fdstat_get", "directory", []any{fdDir, out}, OK},
	{"fd_fdstat_get", "stream", []any{fdStdin, out}, OK},
	{"fd_fdstat_get", "socket", []any{fdStream, out}, OK},
	{"fd_fdstat_get", "none", []any{fdNone, out}, EBADF},
	{"fd_fdstat_get", "out of memory", []any{fdFile, beyond}, EFAULT},
	{"fd_fdstat_set_flags", "append", []any{fdFile, flagAppend}, OK},
	{"fd_fdstat_set_flags", "non-blocking socket", []any{fdStream, flagNonblock}, OK},
	{"fd_fdstat_set_flags", "non-blocking input", []any{fdStdin, flagNonblock}, OK},
	{"fd_fdstat_set_flags", "unknown", []any{fdFile, 1 << 7}, EINVAL},
	{"fd_fdstat_set_flags", "no longer append", []any{fdAppend, 0}, ENOTSUP},
	{"fd_fdstat_set_flags", "none", []any{fdNone, 0}, EBADF},
	{"fd_fdstat_set_rights", "fewer", []any{fdFile, rightRead, 0}, OK},
	{"fd_fdstat_set_rights", "more", []any{fdReader, readWrite, 0}, ENOTCAPABLE},
	{"fd_fdstat_set_rights", "none", []any{fdNone, 0, 0}, EBADF},
	{"fd_filestat_get", "file", []any{fdFile, out}, OK},
	{"fd_filestat_get", "directory", []any{fdDir, out}, OK},
	{"fd_filestat_get", "stream", []any{fdStdout, out}, OK},
	{"fd_filestat_get", "socket", []any{fdStream, out}, OK},
	{"fd_filestat_get", "none", []any{fdNone, out}, EBADF},
	{"fd_filestat_get", "out of memory", []any{fdFile, beyond}, EFAULT},
	{"fd_filestat_set_size", "shorter", []any{fdFile, 1}, OK},
	{"fd_filestat_set_size", "longer", []any{fdFile, 5000}, OK},
	{"fd_filestat_set_size", "for reading", []any{fdReader, 1}, EINVAL},
	{"fd_filestat_set_size", "too long", []any{fdFile, lowest}, EINVAL},
	{"fd_filestat_set_size", "directory", []any{fdDir, 1}, EISDIR},
	{"fd_filestat_set_size", "none", []any{fdNone, 1}, EBADF},
	{"fd_filestat_set_times", "both", []any{fdFile, 1000, 2000, 5}, OK},
	{"fd_filestat_set_times", "now", []any{fdFile, 0, 0, 10}, OK},
	{"fd_filestat_set_times", "directory", []any{fdDir, 1000, 2000, 5}, OK},
	{"fd_filestat_set_times", "a time and now", []any{fdFile, 1, 1, 3}, EINVAL},
	{"fd_filestat_set_times", "unknown flag", []any{fdFile, 1, 1, 16}, EINVAL},
	{"fd_filestat_set_times", "stream", []any{fdStdout, 1, 1, 5}, EINVAL},
	{"fd_filestat_set_times", "none", []any{fdNone, 1, 1, 5}, EBADF},
	{"fd_pread", "file", []any{fdFile, vectors(4), 5, out}, OK},
	{"fd_pread", "behind the end", []any{fdFile, vectors(4), 500, out}, OK},
	{"fd_pread", "negative", []any{fdFile, vectors(4), lowest, out}, EINVAL},
	{"fd_pread", "directory", []any{fdDir, vectors(4), 0, out}, EISDIR},
	{"fd_pread", "stream", []any{fdStdin, vectors(4), 0, out}, ESPIPE},
	{"fd_pread", "socket", []any{fdStream, vectors(4), 0, out}, ESPIPE},
	{"fd_pread", "none", []any{fdNone, vectors(4), 0, out}, EBADF},
	{"fd_pread", "result out of memory", []any{fdFile, vectors(4), 0, beyond}, EFAULT},
	{"fd_pwrite", "file", []any{fdFile, vectors(4), 5, out}, OK},
	{"fd_pwrite", "for reading", []any{fdReader, vectors(4), 0, out}, EBADF},
	{"fd_pwrite", "negative", []any{fdFile, vectors(4), lowest, out}, EINVAL},
	{"fd_pwrite", "directory", []any{fdDir, vectors(4), 0, out}, EISDIR},
	{"fd_pwrite", "stream", []any{fdStdout, vectors(4), 0, out}, ESPIPE},
	{"fd_pwrite", "none", []any{fdNone, vectors(4), 0, out}, EBADF},
	{"fd_prestat_get", "directory", []any{fdData, out}, OK},
	{"fd_prestat_get", "opened directory", []any{fdDir, out}, EBADF},
	{"fd_prestat_get", "file", []any{fdFile, out}, EBADF},
	{"fd_prestat_get", "none", []any{fdNone, out}, EBADF},
	{"fd_prestat_get", "out of memory", []any{fdData, beyond}, EFAULT},
	{"fd_prestat_dir_name", "", []any{fdData, atData, 5}, OK},
	{"fd_prestat_dir_name", "too short", []any{fdData, atData, 4}, ENAMETOOLONG},
	{"fd_prestat_dir_name", "file", []any{fdFile, atData, 9}, EBADF},
	{"fd_prestat_dir_name", "out of memory", []any{fdData, beyond, 5}, EFAULT},
	{"fd_read", "file", []any{fdFile, vectors(4), out}, OK},
	{"fd_read", "end of input", []any{fdStdin, vectors(4), out}, OK},
	{"fd_read", "output", []any{fdStdout, vectors(4), out}, EBADF},
	{"fd_read", "directory", []any{fdDir, vectors(4), out}, EISDIR},
	{"fd_read", "socket that is not connected", []any{fdStream, vectors(4), out}, ENOTCONN},
	{"fd_read", "none", []any{fdNone, vectors(4), out}, EBADF},
	{"fd_read", "result out of memory", []any{fdFile, vectors(4), beyond}, EFAULT},
	{"fd_read", "vectors out of memory", []any{fdFile, beyond, 1, out}, EFAULT},
	{"fd_read", "too many vectors", []any{fdFile, atVector, 1025, out}, EINVAL},
	{"fd_write", "file", []any{fdFile, vectors(4), out}, OK},
	{"fd_write", "append", []any{fdAppend, vectors(4), out}, OK},
	{"fd_write", "output", []any{fdStdout, vectors(4), out}, OK},
	{"fd_write", "error output", []any{fdStderr, vectors(4), out}, OK},
	{"fd_write", "input", []any{fdStdin, vectors(4), out}, EBADF},
	{"fd_write", "for reading", []any{fdReader, vectors(4), out}, EBADF},
	{"fd_write", "directory", []any{fdDir, vectors(4), out}, EISDIR},
	{"fd_write", "socket that is not connected", []any{fdStream, vectors(4), out}, ENOTCONN},
	{"fd_write", "datagram without a destination", []any{fdDatagram, vectors(4), out}, EDESTADDRREQ},
	{"fd_write", "none", []any{fdNone, vectors(4), out}, EBADF},
	{"fd_readdir", "", []any{fdDir, atData, 500, 0, out}, OK},
	{"fd_readdir", "behind the end", []any{fdDir, atData, 500, 77, out}, OK},
	{"fd_readdir", "no room", []any{fdDir, atData, 0, 0, out}, OK},
	{"fd_readdir", "root", []any{fdRoot, atData, 500, 0, out}, OK},
	{"fd_readdir", "file", []any{fdFile, atData, 500, 0, out}, ENOTDIR},
	{"fd_readdir", "none", []any{fdNone, atData, 500, 0, out}, EBADF},
	{"fd_readdir", "out of memory", []any{fdDir, beyond, 500, 0, out}, EFAULT},
	{"fd_renumber", "over another", []any{fdFile, fdReader}, OK},
	{"fd_renumber", "to itself", []any{fdFile, fdFile}, OK},
	{"fd_renumber", "of none", []any{fdNone, fdFile}, EBADF},
	{"fd_renumber", "to none", []any{fdFile, fdNone}, EBADF},
	{"fd_seek", "set", []any{fdFile, 3, 0, out}, OK},
	{"fd_seek", "current", []any{fdFile, 0, 1, out}, OK},
	{"fd_seek", "end", []any{fdFile, 0, 2, out}, OK},
	{"fd_seek", "behind the end", []any{fdFile, uint64(1 << 40), 0, out}, OK},
	{"fd_seek", "before the beginning", []any{fdFile, minusOne, 0, out}, EINVAL},
	{"fd_seek", "unknown", []any{fdFile, 0, 3, out}, EINVAL},
	{"fd_seek", "stream", []any{fdStdout, 0, 1, out}, ESPIPE},
	{"fd_seek", "none", []any{fdNone, 0, 1, out}, EBADF},
	{"fd_tell", "file", []any{fdFile, out}, OK},
	{"fd_tell", "stream", []any{fdStdin, out}, ESPIPE},
	{"fd_tell", "none", []any{fdNone, out}, EBADF},

	{"path_create_directory", "", []any{fdData, "new"}, OK},
	{"path_create_directory", "with a slash", []any{fdData, "new/"}, OK},
	{"path_create_directory", "that is there", []any{fdData, "d"}, EEXIST},
	{"path_create_directory", "over a file", []any{fdData, "f"}, EEXIST},
	{"path_create_directory", "below nothing", []any{fdData, "no/new"}, ENOENT},
	{"path_create_directory", "below a file", []any{fdData, "f/new"}, ENOTDIR},
	{"path_create_directory", "outside", []any{fdData, "../new"}, EPERM},
	{"path_create_directory", "absolute", []any{fdData, "/new"}, EPERM},
	{"path_create_directory", "read-only", []any{fdReadOnly, "new"}, EROFS},
	{"path_create_directory", "in the root", []any{fdRoot, "new"}, EROFS},
	{"path_create_directory", "empty", []any{fdData, ""}, ENOENT},
	{"path_create_directory", "too long", []any{fdData, strings.Repeat("a", 5000)}, ENAMETOOLONG},
	{"path_create_directory", "of a file's descriptor", []any{fdFile, "new"}, ENOTDIR},
	{"path_create_directory", "none", []any{fdNone, "new"}, EBADF},
	{"path_filestat_get", "file", []any{fdData, 0, "f", out}, OK},
	{"path_filestat_get", "itself", []any{fdData, 0, ".", out}, OK},
	{"path_filestat_get", "link", []any{fdData, 0, "link", out}, OK},
	{"path_filestat_get", "through a link", []any{fdData, 1, "link", out}, OK},
	{"path_filestat_get", "through a broken link", []any{fdData, 1, "broken", out}, ENOENT},
	{"path_filestat_get", "through a link outside", []any{fdData, 1, "outside", out}, EPERM},
	{"path_filestat_get", "through a loop", []any{fdData, 1, "loop", out}, ELOOP},
	{"path_filestat_get", "missing", []any{fdData, 0, "no", out}, ENOENT},
	{"path_filestat_get", "file with a slash", []any{fdData, 0, "f/", out}, ENOTDIR},
	{"path_filestat_get", "outside", []any{fdData, 0, "../secret", out}, EPERM},
	{"path_filestat_get", "read-only", []any{fdReadOnly, 0, "f", out}, OK},
	{"path_filestat_get", "from the root", []any{fdRoot, 0, "data/f", out}, OK},
	{"path_filestat_get", "out of memory", []any{fdData, 0, "f", beyond}, EFAULT},
	{"path_filestat_set_times", "", []any{fdData, 1, "f", 1000, 2000, 5}, OK},
	{"path_filestat_set_times", "of a link itself", []any{fdData, 0, "link", 1000, 2000, 5}, ENOTSUP},
	{"path_filestat_set_times", "missing", []any{fdData, 1, "no", 1000, 2000, 5}, ENOENT},
	{"path_filestat_set_times", "read-only", []any{fdReadOnly, 1, "f", 1000, 2000, 5}, EROFS},
	{"path_filestat_set_times", "a time and now", []any{fdData, 1, "f", 1, 1, 3}, EINVAL},
	{"path_link", "", []any{fdData, 0, "f", fdData, "new"}, OK},
	{"path_link", "to another directory", []any{fdData, 0, "f", fdDir, "new"}, OK},
	{"path_link", "over a file", []any{fdData, 0, "f", fdData, "d/x"}, EEXIST},
	{"path_link", "missing", []any{fdData, 0, "no", fdData, "new"}, ENOENT},
	{"path_link", "directory", []any{fdData, 0, "d", fdData, "new"}, EPERM},
	{"path_link", "into a read-only mount", []any{fdData, 0, "f", fdReadOnly, "new"}, EROFS},
	{"path_link", "out of a read-only mount", []any{fdReadOnly, 0, "f", fdData, "new"}, EROFS},
	{"path_link", "outside", []any{fdData, 0, "../secret", fdData, "new"}, EPERM},
	{"path_open", "", []any{fdData, 1, "f", 0, rightRead, 0, 0, out}, OK},
	{"path_open", "create", []any{fdData, 1, "new", openCreate, readWrite, 0, 0, out}, OK},
	{"path_open", "create exclusively", []any{fdData, 1, "f", openCreate | openExclusive, readWrite, 0, 0, out}, EEXIST},
	{"path_open", "truncate", []any{fdData, 1, "f", openTruncate, readWrite, 0, 0, out}, OK},
	{"path_open", "directory", []any{fdData, 1, "d", openDirectory, rightRead, 0, 0, out}, OK},
	{"path_open", "file as directory", []any{fdData, 1, "f", openDirectory, rightRead, 0, 0, out}, ENOTDIR},
	{"path_open", "directory for writing", []any{fdData, 1, "d", 0, readWrite, 0, 0, out}, EISDIR},
	{"path_open", "missing", []any{fdData, 1, "no", 0, rightRead, 0, 0, out}, ENOENT},
	{"path_open", "outside", []any{fdData, 1, "../secret", 0, rightRead, 0, 0, out}, EPERM},
	{"path_open", "absolute", []any{fdData, 1, "/etc/passwd", 0, rightRead, 0, 0, out}, EPERM},
	{"path_open", "through a link outside", []any{fdData, 1, "outside", 0, rightRead, 0, 0, out}, EPERM},
	{"path_open", "through a loop", []any{fdData, 1, "loop", 0, rightRead, 0, 0, out}, ELOOP},
	{"path_open", "link that is not followed", []any{fdData, 0, "link", 0, rightRead, 0, 0, out}, ELOOP},
	{"path_open", "read-only for reading", []any{fdReadOnly, 1, "f", 0, rightRead, 0, 0, out}, OK},
	{"path_open", "read-only for writing", []any{fdReadOnly, 1, "f", 0, readWrite, 0, 0, out}, EROFS},
	{"path_open", "read-only, create", []any{fdReadOnly, 1, "new", openCreate, readWrite, 0, 0, out}, EROFS},
	{"path_open", "read-only, truncate", []any{fdReadOnly, 1, "f", openTruncate, rightRead, 0, 0, out}, EROFS},
	{"path_open", "result out of memory", []any{fdData, 1, "f", 0, rightRead, 0, 0, beyond}, EFAULT},
	{"path_readlink", "", []any{fdData, "link", buffer{atData, 9}, out}, OK},
	{"path_readlink", "cut off", []any{fdData, "link", buffer{atData, 0}, out}, OK},
	{"path_readlink", "file", []any{fdData, "f", buffer{atData, 9}, out}, EINVAL},
	{"path_readlink", "missing", []any{fdData, "no", buffer{atData, 9}, out}, ENOENT},
	{"path_readlink", "a path of the host", []any{fdData, "absolute", buffer{atData, 9}, out}, EPERM},
	{"path_readlink", "out of memory", []any{fdData, "link", buffer{beyond, 9}, out}, EFAULT},
	{"path_remove_directory", "", []any{fdData, "empty"}, OK},
	{"path_remove_directory", "not empty", []any{fdData, "d"}, ENOTEMPTY},
	{"path_remove_directory", "file", []any{fdData, "f"}, ENOTDIR},
	{"path_remove_directory", "link to one", []any{fdData, "link"}, ENOTDIR},
	{"path_remove_directory", "missing", []any{fdData, "no"}, ENOENT},
	{"path_remove_directory", "read-only", []any{fdReadOnly, "d"}, EROFS},
	{"path_remove_directory", "outside", []any{fdData, "../data"}, EPERM},
	{"path_rename", "", []any{fdData, "f", fdData, "new"}, OK},
	{"path_rename", "over a file", []any{fdData, "f", fdData, "d/x"}, OK},
	{"path_rename", "directory over an empty one", []any{fdData, "d", fdData, "empty"}, OK},
	{"path_rename", "directory over a full one", []any{fdData, "empty", fdData, "d"}, ENOTEMPTY},
	{"path_rename", "directory over a file", []any{fdData, "d", fdData, "f"}, ENOTDIR},
	{"path_rename", "file over a directory", []any{fdData, "f", fdData, "d"}, EISDIR},
	{"path_rename", "directory into itself", []any{fdData, "d", fdData, "d/new"}, EINVAL},
	{"path_rename", "missing", []any{fdData, "no", fdData, "new"}, ENOENT},
	{"path_rename", "into a read-only mount", []any{fdData, "f", fdReadOnly, "new"}, EROFS},
	{"path_rename", "outside", []any{fdData, "f", fdData, "../new"}, EPERM},
	{"path_symlink", "", []any{"f", fdData, "new"}, OK},
	{"path_symlink", "to nothing", []any{"no", fdData, "new"}, OK},
	{"path_symlink", "absolute", []any{"/etc", fdData, "new"}, EPERM},
	{"path_symlink", "outside", []any{"../secret", fdData, "new"}, EPERM},
	{"path_symlink", "up, but within", []any{"../f", fdData, "d/new"}, OK},
	{"path_symlink", "over a file", []any{"f", fdData, "d/x"}, EEXIST},
	{"path_symlink", "to an empty name", []any{"", fdData, "new"}, ENOENT},
	{"path_symlink", "read-only", []any{"f", fdReadOnly, "new"}, EROFS},
	{"path_unlink_file", "file", []any{fdData, "f"}, OK},
	{"path_unlink_file", "link", []any{fdData, "link"}, OK},
	{"path_unlink_file", "directory", []any{fdData, "d"}, EISDIR},
	{"path_unlink_file", "missing", []any{fdData, "no"}, ENOENT},
	{"path_unlink_file", "with a slash", []any{fdData, "f/"}, ENOTDIR},
	{"path_unlink_file", "read-only", []any{fdReadOnly, "f"}, EROFS},
	{"path_unlink_file", "outside", []any{fdData, "../secret"}, EPERM},

	{"poll_oneoff", "nothing", []any{atPath, atOther, 0, out}, EINVAL},
	{"poll_oneoff", "subscriptions out of memory", []any{beyond, atOther, 1, out}, EFAULT},
	{"poll_oneoff", "events out of memory", []any{atPath, beyond, 1, out}, EFAULT},
	{"poll_oneoff", "a clock that is due", []any{atPath, atOther, 1, out}, OK},
	{"sock_accept", "file", []any{fdFile, 0, out}, ENOTSOCK},
	{"sock_accept", "socket that does not listen", []any{fdStream, 0, out}, EINVAL},
	{"sock_accept", "none", []any{fdNone, 0, out}, EBADF},
	{"sock_recv", "file", []any{fdFile, vectors(4), 0, out, atExtra}, ENOTSOCK},
	{"sock_recv", "not connected", []any{fdStream, vectors(4), 0, out, atExtra}, ENOTCONN},
	{"sock_recv", "unknown flag", []any{fdStream, vectors(4), 8, out, atExtra}, ENOTSUP},
	{"sock_send", "not connected", []any{fdStream, vectors(4), 0, out}, ENOTCONN},
	{"sock_send", "flag", []any{fdStream, vectors(4), 1, out}, EINVAL},
	{"sock_send", "file", []any{fdFile, vectors(4), 0, out}, ENOTSOCK},
	{"sock_shutdown", "not connected", []any{fdStream, 3}, ENOTCONN},
	{"sock_shutdown", "nothing", []any{fdStream, 0}, EINVAL},
	{"sock_shutdown", "file", []any{fdFile, 1}, ENOTSOCK},
}

// suiteGuest makes the guest that the constants describe.
func suiteGuest(t *testing.T, via *door) *rawGuest {
	base := t.TempDir()
	data, readOnly := filepath.Join(base, "data"), filepath.Join(base, "ro")
	put(t, filepath.Join(base, "secret"), "secret")
	put(t, filepath.Join(data, "f"), "some text")
	put(t, filepath.Join(data, "d", "x"), "x")
	put(t, filepath.Join(data, "d", "y"), "y")
	put(t, filepath.Join(readOnly, "f"), "fixed")
	put(t, filepath.Join(readOnly, "d", "x"), "x")
	if err := os.Mkdir(filepath.Join(data, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"link": "f", "broken": "no", "outside": "../secret", "loop": "loop", "absolute": "/etc/passwd"} {
		if err := os.Symlink(text, filepath.Join(data, name)); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
	}
	r := newRaw(t, via, Config{Args: []string{"guest"}, Env: []string{"A=1"}, Network: newLoop(t),
		Mounts: []Mount{{Source: data, Target: "/data"}, {Source: readOnly, Target: "/ro", ReadOnly: true}}})
	opened := func(want uint64, name string, oflags, rights, flags uint64) {
		if fd, errno := r.open(fdData, name, oflags, rights, flags); errno != OK || fd != want {
			t.Fatalf("%s: descriptor %d, errno %d", name, fd, errno)
		}
	}
	opened(fdFile, "f", 0, rightsFile, 0)
	opened(fdReader, "f", 0, rightRead, 0)
	opened(fdAppend, "f", 0, rightsFile, flagAppend)
	opened(fdDir, "d", openDirectory, rightReaddir, 0)
	r.must(OK, "sock_open", familyInet4, socketStream, out)
	r.must(OK, "sock_open", familyInet4, socketDatagram, out)
	return r
}

// expand stores arguments of more than a number and returns all of them.
func (r *rawGuest) expand(args []any) (all []uint64) {
	at := uint64(atPath)
	for _, a := range args {
		switch a := a.(type) {
		case int:
			all = append(all, uint64(a))
		case uint64:
			all = append(all, a)
		case string:
			r.m.WriteString(uint32(at), a)
			all = append(all, at, uint64(len(a)))
			at += 0x2000
		case buffer:
			all = append(all, a.at, a.size)
		case vectors:
			iovs, n := r.vector(atData, uint64(a))
			all = append(all, iovs, n)
		}
	}
	return all
}

func TestPreview1(t *testing.T) { everywhere(t, testPreview1) }

func testPreview1(t *testing.T, via *door) {
	if len(suite) < 200 {
		t.Errorf("only %d cases", len(suite))
	}
	seen := map[string]bool{}
	for _, c := range suite {
		seen[c.call] = true
		t.Run(c.call+"/"+c.name, func(t *testing.T) {
			r := suiteGuest(t, via)
			r.must(c.want, c.call, r.expand(c.args)...)
		})
	}
	for name := range systemCalls {
		if !seen[name] && !strings.HasPrefix(name, "sock_") && name != exitName && !strings.HasPrefix(name, "wherry_") {
			t.Errorf("no case calls %s", name)
		}
	}
}

// TestExit: proc_exit does not return, and tells the code to whoever runs the
// guest.
func TestExit(t *testing.T) { everywhere(t, testExit) }

func testExit(t *testing.T, via *door) {
	for _, code := range []uint32{0, 1, 7, 255, 1<<32 - 1} {
		r := newRaw(t, via, Config{})
		func() {
			defer func() {
				var exit *sys.ExitError
				if err, _ := recover().(error); !errors.As(err, &exit) || exit.ExitCode() != code {
					t.Errorf("proc_exit(%d) ends with %v", code, err)
				}
			}()
			r.call("proc_exit", uint64(code))
			t.Errorf("proc_exit(%d) returns", code)
		}()
	}
}
