"""What a training step needs of hardware that is not here: its memory, collectives, precision and roofline time.

`plan` compiles the real step for a slice of TPUs or GPUs, `chips` knows their published peaks and how to describe them
to a compiler, `hlo` reads the compiled program. Nothing here runs a step, and nothing else imports this room but its
command.
"""
