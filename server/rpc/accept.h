// Listening sockets that outlive a shortage of descriptors.
#pragma once

namespace orch::rpc {

// gRPC gives a listening socket up for good when accept4() fails with anything but EAGAIN, for example when no
// descriptor is left: no client could connect again until the next start. From this call on the program's own
// accept4(), which is in accept.cc and stands before the C library's, never lets it see that: a connection that finds
// no descriptor is closed at once, by means of one that is kept for this, and its client tries again later.
void KeepAccepting();

}  // namespace orch::rpc
