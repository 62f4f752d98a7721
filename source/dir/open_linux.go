package dir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// openat2 does by one call of the kernel what os.Root does by one for each
// folder on the way, which was a quarter of the time of serving 100 kB.
func (d *Dir) open(name string) (*os.File, error) {
	defer runtime.KeepAlive(d)
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(d.folder.Fd()), name, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), filepath.Join(d.root.Name(), name)), nil
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM): // before Linux 5.6, or in a sandbox
			return d.root.Open(name)
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN): // EAGAIN: a folder was renamed meanwhile
			return nil, &fs.PathError{Op: "openat2", Path: name, Err: err}
		}
	}
}
