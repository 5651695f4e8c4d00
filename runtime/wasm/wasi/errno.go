package wasi

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

// Errno is a WASI preview 1 error number.
type Errno uint32

// The error numbers in use, by the names of the specification.
const (
	OK              Errno = 0
	EACCES          Errno = 2
	EADDRINUSE      Errno = 3
	EADDRNOTAVAIL   Errno = 4
	EAFNOSUPPORT    Errno = 5
	EAGAIN          Errno = 6
	EALREADY        Errno = 7
	EBADF           Errno = 8
	EBUSY           Errno = 10
	ECONNABORTED    Errno = 13
	ECONNREFUSED    Errno = 14
	ECONNRESET      Errno = 15
	EDESTADDRREQ    Errno = 17
	EDQUOT          Errno = 19
	EEXIST          Errno = 20
	EFAULT          Errno = 21
	EFBIG           Errno = 22
	EHOSTUNREACH    Errno = 23
	EINPROGRESS     Errno = 26
	EINVAL          Errno = 28
	EIO             Errno = 29
	EISCONN         Errno = 30
	EISDIR          Errno = 31
	ELOOP           Errno = 32
	EMFILE          Errno = 33
	EMLINK          Errno = 34
	EMSGSIZE        Errno = 35
	ENAMETOOLONG    Errno = 37
	ENOENT          Errno = 44
	ENOMEM          Errno = 48
	ENOPROTOOPT     Errno = 50
	ENOSPC          Errno = 51
	ENOSYS          Errno = 52
	ENOTCONN        Errno = 53
	ENOTDIR         Errno = 54
	ENOTEMPTY       Errno = 55
	ENOTSOCK        Errno = 57
	ENOTSUP         Errno = 58
	ENOTTY          Errno = 59
	ENXIO           Errno = 60
	EPERM           Errno = 63
	EPIPE           Errno = 64
	EPROTONOSUPPORT Errno = 66
	ERANGE          Errno = 68
	EROFS           Errno = 69
	ESPIPE          Errno = 70
	ETIMEDOUT       Errno = 73
	EXDEV           Errno = 75
	ENOTCAPABLE     Errno = 76
)

// hostErrnos pairs the host's error numbers, which differ from system to
// system, with the guest's.
var hostErrnos = [...]struct {
	host  syscall.Errno
	guest Errno
}{
	{syscall.ENOTDIR, ENOTDIR}, {syscall.EISDIR, EISDIR}, {syscall.ENOTEMPTY, ENOTEMPTY},
	{syscall.EROFS, EROFS}, {syscall.ENOSPC, ENOSPC}, {syscall.EDQUOT, EDQUOT},
	{syscall.EFBIG, EFBIG}, {syscall.EINVAL, EINVAL}, {syscall.ELOOP, ELOOP},
	{syscall.ENAMETOOLONG, ENAMETOOLONG}, {syscall.EXDEV, EXDEV}, {syscall.EMLINK, EMLINK},
	{syscall.EMFILE, EMFILE}, {syscall.ENFILE, EMFILE}, {syscall.EBUSY, EBUSY},
	{syscall.ESPIPE, ESPIPE}, {syscall.ENXIO, ENXIO}, {syscall.EPERM, EPERM},
	{syscall.ENOTSUP, ENOTSUP}, {syscall.ECONNREFUSED, ECONNREFUSED},
	{syscall.ECONNRESET, ECONNRESET}, {syscall.ETIMEDOUT, ETIMEDOUT},
	{syscall.EHOSTUNREACH, EHOSTUNREACH}, {syscall.ENETUNREACH, EHOSTUNREACH},
	{syscall.EADDRINUSE, EADDRINUSE}, {syscall.EADDRNOTAVAIL, EADDRNOTAVAIL},
	{syscall.EPIPE, EPIPE}, {syscall.EBADF, EBADF}, {syscall.EACCES, EACCES},
	{syscall.ENOENT, ENOENT}, {syscall.EEXIST, EEXIST}, {syscall.ENOMEM, ENOMEM},
}

// toErrno translates an error of the host for the guest. What it does not know
// is EIO: the guest learns nothing of the host from it.
func toErrno(err error) Errno {
	switch {
	case err == nil:
		return OK
	case err == memconn.ErrWouldBlock:
		return EAGAIN
	case errors.Is(err, memconn.ErrReset):
		return ECONNRESET
	case errors.Is(err, memconn.ErrBrokenPipe), errors.Is(err, io.ErrClosedPipe):
		return EPIPE
	case errors.Is(err, memconn.ErrRefused):
		return ECONNREFUSED
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return ETIMEDOUT
	case isEscape(err):
		return EPERM
	}
	var host syscall.Errno
	if errors.As(err, &host) {
		for _, pair := range hostErrnos {
			if pair.host == host {
				return pair.guest
			}
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ENOENT
	case errors.Is(err, fs.ErrExist):
		return EEXIST
	case errors.Is(err, fs.ErrPermission):
		return EACCES
	case errors.Is(err, net.ErrClosed), errors.Is(err, fs.ErrClosed):
		return EBADF
	case errors.Is(err, fs.ErrInvalid):
		return EINVAL
	}
	return EIO
}

// isEscape recognises os.Root's refusal, which has no exported value.
func isEscape(err error) bool {
	const refusal = "path escapes from parent"
	for ; err != nil; err = errors.Unwrap(err) {
		if err.Error() == refusal {
			return true
		}
	}
	return false
}
