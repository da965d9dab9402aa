"""In a network namespace of its own: starts loopback, gives it the metadata service's address, and becomes COMMAND.

usage: unshare --net own_network.py COMMAND…
"""

import fcntl
import os
import socket
import struct
import sys

# <linux/sockios.h>, <linux/if.h>
SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8914, 0x8916, 1

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))
    address = struct.pack("16sHH4s16x", b"lo:1", socket.AF_INET, 0, socket.inet_aton("169.254.169.254"))
    fcntl.ioctl(control, SIOCSIFADDR, address)
os.execv(sys.argv[1], sys.argv[1:])
