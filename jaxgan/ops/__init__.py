"""Operations that XLA does badly on some platform, each behind one name for all of them."""
