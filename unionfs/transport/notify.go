package transport

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Codes of messages that the server sends by itself
// (include/uapi/linux/fuse.h, enum fuse_notify_code).
const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
	notifyResend     = 7
)

// InvalidateInode makes the kernel drop the attributes of a node, and of its
// data what lies in the given range, in bytes: length 0 means to the end, a
// negative offset none of the data. It returns unix.ENOENT if the kernel does
// not know the node. It may wait for requests on that node, so no lock that a
// handler needs may be held.
func (d *Device) InvalidateInode(node uint64, offset, length int64) error {
	body := binary.NativeEndian.AppendUint64(nil, node)
	body = binary.NativeEndian.AppendUint64(body, uint64(offset))
	body = binary.NativeEndian.AppendUint64(body, uint64(length))
	return d.notify(notifyInvalInode, body)
}

// InvalidateEntry makes the kernel forget a name in a folder, whether the
// name exists or not. It returns unix.ENOENT if the kernel does not know it.
// The caution of InvalidateInode holds.
func (d *Device) InvalidateEntry(parent uint64, name string) error {
	body := binary.NativeEndian.AppendUint64(nil, parent)
	body = binary.NativeEndian.AppendUint32(body, uint32(len(name)))
	body = binary.NativeEndian.AppendUint32(body, 0)
	body = append(append(body, name...), 0)
	return d.notify(notifyInvalEntry, body)
}

// notify sends a message: an answer to nothing, with the code in the place of
// the error.
func (d *Device) notify(code uint32, body []byte) error {
	message := appendHeader(nil, len(body), code, 0)
	message = append(message, body...)
	if !d.acquireOpen() {
		return fmt.Errorf("notify the kernel (%d): %w", code, unix.ENODEV)
	}
	defer d.release()
	if err := ignoringEINTR(func() error { return d.write(message) }); err != nil {
		return fmt.Errorf("notify the kernel (%d): %w", code, err)
	}
	return nil
}

// appendHeader appends a struct fuse_out_header.
func appendHeader(b []byte, payload int, code uint32, unique uint64) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(outHeaderSize+payload))
	b = binary.NativeEndian.AppendUint32(b, code)
	return binary.NativeEndian.AppendUint64(b, unique)
}

func (d *Device) write(message []byte) error {
	_, err := unix.Write(d.fd, message)
	return err
}
