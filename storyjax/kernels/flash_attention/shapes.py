"""The shapes that matter, (B, L, N, D) of the queries and the number of keys: Stable Diffusion's UNets and their text."""

SHAPES = {
    "SD 1.5 at 512, 64 x 64, self": ((2, 4096, 8, 40), 4096),
    "SD 2.1 at 256, 32 x 32, self": ((5, 1024, 5, 64), 1024),
    "SD 2.1 at 256, 32 x 32, first frame's keys too": ((5, 1024, 5, 64), 2048),
    "SD 1.5 at 512, 64 x 64, text": ((2, 4096, 8, 40), 77),
    "SD 2.1 at 256, 32 x 32, text": ((5, 1024, 5, 64), 77),
    "SD XL at 1024, 64 x 64, self": ((2, 4096, 10, 64), 4096),
    "SD 1.5 at 1024, 32 x 32, self, heads of 160": ((2, 1024, 8, 160), 1024),
    "picture codec at 512, one head": ((1, 4096, 1, 512), 4096),
}
